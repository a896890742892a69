"use strict";
// What the report does by itself: finding, sorting and opening tracks. Everything of tracks comes from the JSON in
// the page and reaches it as text or as a number, never as HTML.

document.addEventListener("alpine:init", () => {
  const { classes, tracks, seekable } = JSON.parse(document.getElementById("data").textContent);
  const byText = new Intl.Collator(undefined, { numeric: true });

  // Frozen, so that Alpine does not watch each number of thousands of tracks.
  const rows = Object.freeze(
    tracks.map((track, place) =>
      Object.freeze({
        ...track,
        place,
        mistake: track.is !== track.heard,
        sureness: track.p[track.heard],
        words: [track.track, classes[track.is], classes[track.heard]].join("\n").toLowerCase(),
      }),
    ),
  );
  const columns = Object.freeze([
    { key: "track", title: "track", compare: (a, b) => byText.compare(a.track, b.track) },
    { key: "is", title: "is", compare: (a, b) => byText.compare(classes[a.is], classes[b.is]) },
    { key: "heard", title: "heard as", compare: (a, b) => byText.compare(classes[a.heard], classes[b.heard]) },
    { key: "sureness", title: "sure", compare: (a, b) => a.sureness - b.sureness },
  ]);

  const colour = (index) => `var(--class-${index})`;
  const percent = (thousandths) => `${Math.round(thousandths / 10)}\u00a0%`;
  const exact = (thousandths) => `${(thousandths / 10).toFixed(1)}\u00a0%`;
  const part = (share, index) => ({ index, share: `${share / 10}%`, colour: colour(index) });
  const number = (count, noun) => `${count} ${noun}${count === 1 ? "" : "s"}`;
  const ranked = (p) => p.map((share, index) => [share, index]).sort((a, b) => b[0] - a[0]);

  // Bands of colours side by side; each is [class, share of the width in per cent].
  const gradient = (bands) => {
    let end = 0;
    const stops = bands.map(([index, width]) => `${colour(index)} ${end}% ${(end += width)}%`);
    return `linear-gradient(to right, ${stops.join(", ")})`;
  };

  Alpine.data("report", () => ({
    classes,
    rows,
    columns,
    search: "",
    mistakesOnly: false,
    order: { key: null, down: false }, // null: as the page has them, the surest mistakes first
    limit: 50,
    opened: null, // the row that shows its segments
    playing: null, // the second from which it is heard, in an object of its own each time
    silent: false, // it cannot be heard
    pointed: null, // the segment whose numbers are shown
    cell: null, // what the dialog shows

    get found() {
      const words = this.search.trim().toLowerCase();
      const found = rows.filter((row) => row.words.includes(words) && (row.mistake || !this.mistakesOnly));
      const column = columns.find(({ key }) => key === this.order.key);
      if (column) found.sort((a, b) => (this.order.down ? column.compare(b, a) : column.compare(a, b)));
      return found;
    },
    get shown() {
      return this.found.slice(0, this.limit);
    },

    // Up, down, and back to the order of the page.
    sortBy(key) {
      if (this.order.key !== key) this.order = { key, down: false };
      else this.order = this.order.down ? { key: null, down: false } : { key, down: true };
    },
    open(row) {
      Object.assign(this, { opened: row, playing: null, pointed: null, silent: false });
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
      this.silent = false;
      audio.src = `${row.audio}#t=${this.playing.seconds}`;
      audio.play().catch(() => {}); // what is wrong comes as an event, too
    },

    openCell(button) {
      if (!button) return;
      const { level } = button.dataset;
      const [is, heard, count] = ["is", "heard", "count"].map((name) => Number(button.dataset[name]));
      const ofSegments = level === "segments";
      const entries = rows
        .filter((row) => row.is === is)
        .map((row) => {
          const there = ofSegments ? row.said.filter((said) => said === heard).length : Number(row.heard === heard);
          const note = ofSegments ? `${there} of ${number(row.said.length, "segment")}` : percent(row.sureness);
          return { row, there, note };
        })
        .filter(({ there }) => there)
        .sort((a, b) => b.there - a.there);
      const missing = count - entries.reduce((sum, { there }) => sum + there, 0);
      this.cell = {
        title: `${number(count, level.slice(0, -1))} of ${classes[is]}, heard as ${classes[heard]}`,
        missing: missing ? `${missing} of them are of tracks that this page leaves out.` : "",
        entries,
      };
      this.$nextTick(() => this.$refs.dialog.showModal());
    },
    goTo(row) {
      this.$refs.dialog.close();
      Object.assign(this, { search: row.track, mistakesOnly: false, order: { key: null, down: false } });
      this.limit = Math.max(this.limit, this.found.indexOf(row) + 1);
      this.open(row);
      this.$nextTick(() => document.getElementById(`track-${row.place}`).scrollIntoView({ block: "center" }));
    },

    colour,
    percent,
    exact,
    bands: (p) => gradient(p.map((share, index) => [index, share / 10])),
    stripes: (said) => gradient(said.map((index) => [index, 100 / said.length])),
    parts: (p) => p.map(part),
    rankedParts: (p) => ranked(p).map(([share, index]) => part(share, index)),
    inWords: (p) =>
      ranked(p)
        .filter(([share], place) => place === 0 || (share >= 10 && place < 5))
        .map(([share, index]) => `${classes[index]} ${exact(share)}`)
        .join(", "),
    timeline: (row) => `heard over time as ${row.said.map((index) => classes[index]).join(", ")}`,
    every: (row) => Math.ceil(row.starts.length / 12),
    hint: (row) =>
      row.audio && seekable
        ? "Point at a segment for its numbers; press it to hear the track from there."
        : "Point at a segment for its numbers.",
  }));
});
