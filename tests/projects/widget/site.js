// Turns pages in Markdown into pages in HTML. Knows no files: build.js reads and writes them.

import { Marked } from "marked";
import Mustache from "mustache";

const markdown = new Marked({ gfm: true });

/** A page: the name of its file, its title (the first heading) and its body in HTML. */
export function readPage(name, text) {
  const heading = /^# (.+)$/m.exec(text);
  if (heading === null) {
    throw new Error(`${name}: a page starts with a heading, as in "# Title"`);
  }
  return { name, title: heading[1].trim(), body: markdown.parse(text) };
}

/** The whole HTML of `page`, with a menu of all `pages`. */
export function render(layout, page, pages) {
  const menu = pages.map(({ name, title }) => ({ name, title, current: name === page.name }));
  return Mustache.render(layout, { ...page, menu });
}
