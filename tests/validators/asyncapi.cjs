// Prints what the AsyncAPI Initiative's own parser finds wrong with the document on standard input: errors and warnings.
const { Parser } = require("@asyncapi/parser");
const { readFileSync } = require("node:fs");

const WARNING = 1;
// The server writes 3.0 as the contract says; 3.1 changes nothing that it uses.
const IGNORED = ["asyncapi-latest-version"];

new Parser().parse(readFileSync(0, "utf8")).then(({ document, diagnostics }) => {
  const found = diagnostics.filter(({ severity, code }) => severity <= WARNING && !IGNORED.includes(code));
  console.log(JSON.stringify({ isDocument: Boolean(document), found: found.map(({ code, message, path }) => [code, message, path]) }));
});
