import assert from "node:assert/strict";
import { test } from "node:test";

import { readPage, render } from "./site.js";

test("a page's title is its first heading", () => {
  const page = readPage("index", "# The Widget\n\nIt *turns*.\n");
  assert.equal(page.title, "The Widget");
  assert.match(page.body, /<p>It <em>turns<\/em>\.<\/p>/);
});

test("a page without a heading is refused by name", () => {
  assert.throws(() => readPage("care", "Wipe it.\n"), /^Error: care: /);
});

test("a title is escaped, a body is not", () => {
  const page = readPage("safety", "# Fingers & gears\n\nMind **both**.\n");
  const html = render("<h1>{{title}}</h1>{{{body}}}", page, [page]);
  assert.match(html, /<h1>Fingers &amp; gears<\/h1>/);
  assert.match(html, /<strong>both<\/strong>/);
});

test("the menu marks the current page", () => {
  const pages = [readPage("index", "# One"), readPage("care", "# Two")];
  const html = render("{{#menu}}{{title}}{{#current}}*{{/current}} {{/menu}}", pages[1], pages);
  assert.equal(html, "One Two* ");
});
