/** Shows JSON Schemas to people: the lines of a type, and an example of it. */

import { element } from "../dom.js";
import { withCode } from "./parts.js";

const PREFIX = "#/components/schemas/";
// A type that holds itself, or much else, is shown by its name from here on.
const DEEPEST = 3;

/** The schemas of one document, by their names. */
export class Schemas {
  #named;

  constructor(document) {
    this.#named = document.components.schemas;
  }

  /** The schema that is meant: of a reference, that which it names; `allOf` is put together. */
  resolve(schema) {
    if (schema.$ref) return this.#named[schema.$ref.slice(PREFIX.length)];
    if (!schema.allOf) return schema;
    const parts = schema.allOf.map((part) => this.resolve(part));
    return merge(parts);
  }

  /** In a few words: `string, 1 to 64 characters, or null`. */
  words(schema) {
    if (schema.$ref) return schema.$ref.slice(PREFIX.length);
    const options = schema.anyOf ?? schema.oneOf;
    if (options) return options.map((option) => this.words(option)).join(" or ");
    if (schema.enum) return schema.enum.map((value) => JSON.stringify(value)).join(" | ");
    if (schema.type === "array") return `list of ${this.words(schema.items ?? {})}${bounds(schema)}`;
    if (schema.type === "object" && schema.additionalProperties) {
      return `object of ${this.words(schema.additionalProperties)}${bounds(schema)}`;
    }
    const format = schema.format ? ` (${schema.format})` : "";
    return `${schema.type ?? "anything"}${format}${bounds(schema)}`;
  }

  /** A table of the fields of an object, with those of the objects in it; null for what has no fields. */
  fields(schema, depth = 0) {
    const whole = this.resolve(schema);
    const options = whole.oneOf ?? whole.anyOf;
    if (options) return element("div", {}, ...options.map((option) => this.#option(option, depth)));
    if (whole.type === "array") return this.fields(whole.items ?? {}, depth);
    if (!whole.properties || depth > DEEPEST) return null;
    const lines = Object.entries(whole.properties).map(([name, field]) => this.#line(whole, name, field, depth));
    const description = whole.description ? element("p", { class: "hint" }, ...withCode(whole.description)) : null;
    return element("div", {}, description, element("ul", { class: "fields" }, ...lines));
  }

  /** A value that fits the schema, for somebody to change. */
  example(schema, depth = 0) {
    const whole = this.resolve(schema);
    if (whole.default !== undefined && whole.default !== null) return whole.default;
    const options = whole.oneOf ?? whole.anyOf;
    if (options) return this.example(options[0], depth);
    if (whole.enum) return whole.enum.at(-1);
    if (whole.type === "array") return depth > DEEPEST ? [] : [this.example(whole.items ?? {}, depth + 1)];
    if (whole.type === "object" || whole.properties) return this.#exampleObject(whole, depth);
    if (whole.type === "integer" || whole.type === "number") return whole.minimum ?? 0;
    if (whole.type === "boolean") return false;
    return whole.format === "email" ? "me@example.com" : "";
  }

  #exampleObject(whole, depth) {
    const required = new Set(whole.required ?? []);
    const names = Object.keys(whole.properties ?? {}).filter((name) => required.size === 0 || required.has(name));
    return Object.fromEntries(names.map((name) => [name, this.example(whole.properties[name], depth + 1)]));
  }

  #option(option, depth) {
    const inner = this.fields(option, depth);
    return inner && element("div", {}, element("p", { class: "option" }, this.words(option)), inner);
  }

  #line(whole, name, field, depth) {
    const isRequired = whole.required?.includes(name);
    const inner = depth < DEEPEST && refersToObject(field) ? this.fields(objectOf(field), depth + 1) : null;
    return element(
      "li",
      {},
      element("code", {}, name),
      isRequired ? element("span", { class: "required" }, "required") : null,
      element("span", { class: "type" }, this.words(field)),
      inner && element("details", {}, element("summary", {}, this.words(objectOf(field))), inner),
    );
  }
}

function refersToObject(field) {
  return objectOf(field) !== null;
}

/** The reference in a field, also in a list of such or where it may be null. */
function objectOf(field) {
  if (field.$ref) return field;
  const inner = field.items ?? field.additionalProperties;
  if (inner && typeof inner === "object") return objectOf(inner);
  return field.anyOf?.map(objectOf).find(Boolean) ?? null;
}

function bounds({ minLength, maxLength, minimum, maximum, minItems, maxItems }) {
  const [least, most, unit] =
    maxLength !== undefined || minLength !== undefined
      ? [minLength, maxLength, " characters"]
      : maxItems !== undefined || minItems !== undefined
        ? [minItems, maxItems, " items"]
        : [minimum, maximum, ""];
  if (least === undefined && most === undefined) return "";
  if (least === 1 && most === undefined) return ", not empty";
  if (most === undefined) return `, at least ${least}${unit}`;
  return least === undefined ? `, at most ${most}${unit}` : `, ${least} to ${most}${unit}`;
}

function merge(parts) {
  const properties = {};
  for (const part of parts) {
    for (const [name, field] of Object.entries(part.properties ?? {})) {
      properties[name] = { ...properties[name], ...field };
    }
  }
  return { ...parts[0], properties, required: parts.flatMap((part) => part.required ?? []) };
}
