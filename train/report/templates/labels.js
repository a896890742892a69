"use strict";
// The corrected table: every track with its label, or with the suggested one where the box is checked.

{
  const boxes = [...document.querySelectorAll("input.change")];
  const all = document.getElementById("all");
  const count = document.getElementById("count");
  const rows = JSON.parse(document.getElementById("table").textContent);

  const show = () => {
    const changed = boxes.filter((box) => box.checked).length;
    all.checked = changed === boxes.length;
    count.textContent = changed ? `${changed} label${changed === 1 ? " is" : "s are"} changed.` : "No label is changed.";
  };
  const cell = (value) => (/[",\n\r]/.test(value) ? `"${value.replaceAll('"', '""')}"` : value);

  all.addEventListener("change", () => {
    for (const box of boxes) box.checked = all.checked;
    show();
  });
  for (const box of boxes) box.addEventListener("change", show);
  document.getElementById("download").addEventListener("click", () => {
    const labels = new Map(boxes.filter((box) => box.checked).map((box) => [box.dataset.track, box.dataset.label]));
    const lines = rows.map((row) =>
      [row.path, labels.get(row.track) ?? row.label, row.group, row.split, row.fold ?? ""].map(cell).join(","),
    );
    const content = ["path,label,group,split,fold", ...lines, ""].join("\n");
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([content], { type: "text/csv" }));
    link.download = "corrected-labels.csv";
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  });
  show(); // a browser may restore the boxes of a reloaded page
}
