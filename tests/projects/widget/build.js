// Builds the site: node build.js [FOLDER]. Pages are read in the order of their names, so that the output
// depends on the input alone.

import { mkdirSync, readFileSync, readdirSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";

import CleanCSS from "clean-css";

import { readPage, render } from "./site.js";

const target = process.argv[2] ?? "dist/site";

function readPages(folder) {
  const files = readdirSync(folder).filter((file) => file.endsWith(".md")).sort();
  return files.map((file) => readPage(basename(file, ".md"), readFileSync(join(folder, file), "utf8")));
}

function minify(css) {
  const { styles, errors, warnings } = new CleanCSS({ level: 2 }).minify(css);
  if (errors.length + warnings.length > 0) {
    throw new Error(`style.css: ${[...errors, ...warnings].join("; ")}`);
  }
  return styles;
}

const layout = readFileSync("layout.mustache", "utf8");
const pages = readPages("pages");

mkdirSync(target, { recursive: true });
writeFileSync(join(target, "style.css"), minify(readFileSync("style.css", "utf8")));
for (const page of pages) {
  writeFileSync(join(target, `${page.name}.html`), render(layout, page, pages));
}
console.log(`${pages.length} pages in ${target}`);
