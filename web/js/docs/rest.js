/** The operations of REST: what each takes and answers, and a form that tries it. */

import { element } from "../dom.js";
import { anchorOf, codeBlock, section, shown } from "./parts.js";

const METHODS = ["get", "post", "put", "patch", "delete"];
const JSON_TYPE = "application/json";
const PROBLEM = "application/problem+json";
// What is left of a long answer is in the browser's own tools.
const LONGEST_SHOWN = 20_000;

/** By tag, each operation with its method and path. */
export function restGroups(document) {
  const groups = new Map(document.tags.map(({ name }) => [name, []]));
  for (const [path, methods] of Object.entries(document.paths)) {
    for (const method of METHODS.filter((name) => methods[name])) {
      const operation = methods[method];
      groups.get(operation.tags[0]).push({ method, path, operation, id: anchorOf(operation.operationId) });
    }
  }
  return [...groups].filter(([, entries]) => entries.length > 0);
}

/** One operation. `whoTries()` gives the token. */
export function restEntry({ method, path, operation, id }, schemas, whoTries) {
  const parameters = operation.parameters ?? [];
  const body = operation.requestBody?.content;
  const bodySchema = body && Object.values(body)[0].schema;
  return element(
    "details",
    { id, class: "entry" },
    element(
      "summary",
      {},
      element("span", { class: `method ${method}` }, method.toUpperCase()),
      element("code", { class: "path" }, path),
      element("span", { class: "what" }, operation.summary),
    ),
    element("p", { class: "hint" }, operation["x-scope"] ? `Scope: ${operation["x-scope"]}` : "Public: needs no token"),
    section("Parameters", parameters.length > 0 && parameterList(parameters, schemas)),
    section("Body", bodySchema && schemas.fields(bodySchema)),
    section("Answers", answerList(operation.responses, schemas)),
    section("Try it", tryForm(method, path, parameters, body, schemas, whoTries)),
  );
}

function parameterList(parameters, schemas) {
  const lines = parameters.map((parameter) =>
    element(
      "li",
      {},
      element("code", {}, parameter.name),
      parameter.required ? element("span", { class: "required" }, "required") : null,
      element("span", { class: "type" }, `${schemas.words(parameter.schema)}, in the ${parameter.in}`),
    ),
  );
  return element("ul", { class: "fields" }, ...lines);
}

function answerList(responses, schemas) {
  const lines = Object.entries(responses).map(([status, { description, content = {} }]) => {
    const good = content[JSON_TYPE]?.schema;
    const codes = content[PROBLEM] ? schemas.resolve(content[PROBLEM].schema).properties.code.enum : [];
    return element(
      "li",
      {},
      element("code", { class: status < "400" ? "good" : "bad" }, status),
      element("span", { class: "type" }, good ? schemas.words(good) : codes.length > 0 ? codes.join(", ") : description),
      good && element("details", {}, element("summary", {}, "fields"), schemas.fields(good)),
    );
  });
  return element("ul", { class: "fields" }, ...lines);
}

function tryForm(method, path, parameters, body, schemas, whoTries) {
  const isForm = Boolean(body?.["multipart/form-data"]);
  const example = body?.[JSON_TYPE] && JSON.stringify(schemas.example(body[JSON_TYPE].schema), null, 2);
  const answer = element("div", { class: "answer", role: "status" });
  const fields = parameters.map(({ name, in: place, required }) =>
    element("label", {}, `${name} `, element("input", { name: `${place}:${name}`, required, autocomplete: "off" })),
  );
  const form = element(
    "form",
    { class: "try", novalidate: true },
    ...fields,
    isForm ? element("label", {}, "file ", element("input", { name: "file", type: "file", required: true })) : null,
    example === undefined
      ? null
      : element("label", {}, "body ", element("textarea", { name: "body", rows: Math.min(12, example.split("\n").length) }, example)),
    element("button", { class: "primary", type: "submit" }, "Send"),
    answer,
  );
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const address = fillIn(path, new FormData(form));
    const request = { method: method.toUpperCase(), headers: headersOf(new FormData(form), whoTries()) };
    if (isForm) request.body = fileOf(form);
    else if (example !== undefined) request.body = form.elements.body.value;
    if (request.body && !isForm) request.headers["Content-Type"] = JSON_TYPE;
    answer.replaceChildren(element("p", { class: "hint" }, "Waiting …"));
    answer.replaceChildren(...(await send(address, request)));
  });
  return form;
}

function fillIn(path, values) {
  const query = new URLSearchParams();
  let address = path;
  for (const [key, value] of values) {
    const [place, name] = key.split(":");
    if (place === "path") address = address.replace(`{${name}}`, encodeURIComponent(value));
    else if (place === "query" && value !== "") query.set(name, value);
  }
  return query.size > 0 ? `${address}?${query}` : address;
}

function headersOf(values, token) {
  const named = [...values].filter(([key, value]) => key.startsWith("header:") && value !== "");
  const headers = Object.fromEntries(named.map(([key, value]) => [key.slice("header:".length), value]));
  return token ? { ...headers, Authorization: `Bearer ${token}` } : headers;
}

function fileOf(form) {
  const data = new FormData();
  const [file] = form.elements.file.files;
  if (file) data.append("file", file);
  return data;
}

async function send(address, request) {
  const begun = performance.now();
  try {
    const response = await fetch(address, request);
    const text = await response.text();
    const took = Math.round(performance.now() - begun);
    return [
      element("p", { class: response.ok ? "good" : "bad" }, `${response.status} ${response.statusText}, ${took} ms`),
      text ? codeBlock(shown(text, LONGEST_SHOWN)) : null,
      element("p", { class: "hint" }, "The same on a command line:"),
      codeBlock(curl(address, request)),
    ].filter(Boolean);
  } catch {
    return [element("p", { class: "bad" }, "The server cannot be reached.")];
  }
}

function curl(address, { method, headers, body }) {
  const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;
  const parts = [`curl -X ${method} ${quoted(location.origin + address)}`];
  for (const [name, value] of Object.entries(headers)) {
    parts.push(`-H ${quoted(`${name}: ${name === "Authorization" ? "Bearer $TOKEN" : value}`)}`.replace("'Authorization: Bearer $TOKEN'", '"Authorization: Bearer $TOKEN"'));
  }
  if (typeof body === "string") parts.push(`-d ${quoted(body)}`);
  else if (body) parts.push("-F file=@FILE");
  return parts.join(" \\\n  ");
}
