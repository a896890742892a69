"use strict";
// Search, sort and details of the table of tracks. All track data comes from the JSON in the page, and is inserted as
// text or as numbers, never as HTML.

document.addEventListener("alpine:init", () => {
  const { classes, tracks, seekable } = JSON.parse(document.getElementById("data").textContent);
  const byText = new Intl.Collator(undefined, { numeric: true });

  // Frozen, so that Alpine does not make every number of thousands of tracks reactive.
  const rows = Object.freeze(
    tracks.map((track, index) =>
      Object.freeze({
        ...track,
        index,
        error: track.actual !== track.predicted,
        confidence: track.probabilities[track.predicted],
        text: [track.track, classes[track.actual], classes[track.predicted]].join("\n").toLowerCase(),
      }),
    ),
  );
  const columns = Object.freeze([
    { key: "track", title: "track", compare: (a, b) => byText.compare(a.track, b.track) },
    { key: "actual", title: "actual", compare: (a, b) => byText.compare(classes[a.actual], classes[b.actual]) },
    {
      key: "predicted",
      title: "predicted",
      compare: (a, b) => byText.compare(classes[a.predicted], classes[b.predicted]),
    },
    { key: "confidence", title: "confidence", compare: (a, b) => a.confidence - b.confidence },
  ]);

  const color = (index) => `var(--class-${index})`;
  const percent = (thousandths) => `${Math.round(thousandths / 10)}\u00a0%`;
  const exact = (thousandths) => `${(thousandths / 10).toFixed(1)}\u00a0%`;
  const part = (share, index) => ({ index, share: `${share / 10}%`, color: color(index) });
  const number = (count, noun) => `${count} ${noun}${count === 1 ? "" : "s"}`;
  const ranked = (probabilities) => probabilities.map((share, index) => [share, index]).sort((a, b) => b[0] - a[0]);

  // A gradient of adjacent color bands; each is [class, width in percent].
  const gradient = (bands) => {
    let end = 0;
    const stops = bands.map(([index, width]) => `${color(index)} ${end}% ${(end += width)}%`);
    return `linear-gradient(to right, ${stops.join(", ")})`;
  };

  Alpine.data("report", () => ({
    classes,
    rows,
    columns,
    search: "",
    errorsOnly: false,
    order: { key: null, down: false }, // null: order of the JSON, most confident errors first
    limit: 50,
    opened: null, // row with its details open
    playing: null, // { seconds }: start of playback; a new object each time, so that a repeated click plays again
    clipped: false, // the clip in the page is played, because the file is missing
    unplayable: false, // the browser cannot play the file
    pointed: null, // index of the segment under the pointer
    cell: null, // content of the dialog

    get matches() {
      const query = this.search.trim().toLowerCase();
      const matches = rows.filter((row) => row.text.includes(query) && (row.error || !this.errorsOnly));
      const column = columns.find(({ key }) => key === this.order.key);
      if (column) matches.sort((a, b) => (this.order.down ? column.compare(b, a) : column.compare(a, b)));
      return matches;
    },
    get shown() {
      return this.matches.slice(0, this.limit);
    },

    // Cycles through ascending, descending and the default order.
    sortBy(key) {
      if (this.order.key !== key) this.order = { key, down: false };
      else this.order = this.order.down ? { key: null, down: false } : { key, down: true };
    },
    open(row) {
      Object.assign(this, { opened: row, playing: null, pointed: null, clipped: false, unplayable: false });
    },
    toggle(row) {
      this.open(this.opened === row ? null : row);
    },
    play(row, seconds = 0) {
      if (this.opened !== row) this.open(row);
      this.playing = { seconds };
    },
    seek(row, segment) {
      if (row.audio && seekable) this.play(row, row.starts[segment]);
    },
    listen(audio, row) {
      const { seconds } = this.playing;
      Object.assign(this, { clipped: !row.audio, unplayable: false });
      if (row.audio) audio.src = `${row.audio}#t=${seconds}`;
      else this.playClip(audio, row, seconds);
      audio.play().catch(() => {}); // the error event reports it
    },
    useClip(audio, row) {
      if (!row.clip || this.clipped) {
        this.unplayable = true;
        return;
      }
      this.clipped = true;
      this.playClip(audio, row, this.playing.seconds);
      audio.play().catch(() => {});
    },
    playClip(audio, row, seconds) {
      const from = seconds - row.clip.start;
      audio.onloadedmetadata = () => {
        if (from > 0 && from < audio.duration) audio.currentTime = from;
      };
      audio.src = row.clip.uri;
    },
    clipHint: (row) => `A clip from ${row.clip?.start.toFixed(1)} s on, which is in this page: the file is missing.`,

    openCell(button) {
      if (!button) return;
      const { level } = button.dataset;
      const [actual, predicted, total] = ["actual", "predicted", "count"].map((name) => Number(button.dataset[name]));
      const bySegment = level === "segments";
      const entries = rows
        .filter((row) => row.actual === actual)
        .map((row) => {
          const predictions = bySegment ? row.segment_predictions : [row.predicted];
          const count = predictions.filter((prediction) => prediction === predicted).length;
          const note = bySegment ? `${count} of ${number(predictions.length, "segment")}` : percent(row.confidence);
          return { row, count, note };
        })
        .filter(({ count }) => count)
        .sort((a, b) => b.count - a.count);
      const missing = total - entries.reduce((sum, { count }) => sum + count, 0);
      this.cell = {
        title: `${number(total, level.slice(0, -1))} of ${classes[actual]}, predicted as ${classes[predicted]}`,
        missing: missing ? `Not listed: ${number(missing, level.slice(0, -1))} beyond the tracks on this page.` : "",
        entries,
      };
      this.$nextTick(() => this.$refs.dialog.showModal());
    },
    goTo(row) {
      this.$refs.dialog.close();
      Object.assign(this, { search: row.track, errorsOnly: false, order: { key: null, down: false } });
      this.limit = Math.max(this.limit, this.matches.indexOf(row) + 1);
      this.open(row);
      this.$nextTick(() => document.getElementById(`track-${row.index}`).scrollIntoView({ block: "center" }));
    },

    color,
    percent,
    exact,
    bands: (probabilities) => gradient(probabilities.map((share, index) => [index, share / 10])),
    stripes: (predictions) => gradient(predictions.map((index) => [index, 100 / predictions.length])),
    parts: (probabilities) => probabilities.map(part),
    rankedParts: (probabilities) => ranked(probabilities).map(([share, index]) => part(share, index)),
    topClasses: (probabilities) =>
      ranked(probabilities)
        .filter(([share], rank) => rank === 0 || (share >= 10 && rank < 5))
        .map(([share, index]) => `${classes[index]} ${exact(share)}`)
        .join(", "),
    timeline: (row) => `predictions over time: ${row.segment_predictions.map((index) => classes[index]).join(", ")}`,
    every: (row) => Math.ceil(row.starts.length / 12),
    hint: (row) =>
      row.audio && seekable
        ? "Hover over a segment for its probabilities; click it to play the track from there."
        : "Hover over a segment for its probabilities.",
  }));
});
