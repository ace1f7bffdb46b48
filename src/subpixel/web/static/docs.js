// Shows /openapi.json.

function element(name, ...children) {
  const result = document.createElement(name);
  result.append(...children);
  return result;
}

function code(text) {
  return element("code", text);
}

/** The type of a schema in a few words. */
function type(schema) {
  if (schema.$ref) return schema.$ref.split("/").pop();
  if (schema.oneOf) return schema.oneOf.map(type).join(" or ");
  if (schema.const !== undefined) return JSON.stringify(schema.const);
  if (schema.enum) return schema.enum.map((value) => JSON.stringify(value)).join(", ");
  if (schema.type === "array") return `list of ${type(schema.items)}`;
  if (schema.type === "object" && schema.properties) {
    const inside = Object.entries(schema.properties).map(([name, value]) => `${name}: ${type(value)}`);
    return `{${inside.join("; ")}}`;
  }
  const limits = [schema.minimum, schema.maximum].filter((limit) => limit !== undefined).join(" to ");
  const words = [schema.format === "binary" ? "bytes" : schema.type ?? "JSON", limits, schema.description];
  return words.filter(Boolean).join(", ");
}

function list(entries) {
  const result = element("dl");
  for (const [term, meaning] of entries) result.append(element("dt", code(term)), element("dd", meaning));
  return result;
}

function operation(path, method, content, shared) {
  const parts = [element("h3", code(`${method.toUpperCase()} ${path}`)), element("p", content.summary)];
  const parameters = [...shared, ...(content.parameters ?? [])].filter((each) => each.in !== "path");
  if (parameters.length) {
    parts.push(list(parameters.map((each) => [each.name, `${each.in}: ${type(each.schema)}`])));
  }
  for (const [media, body] of Object.entries(content.requestBody?.content ?? {})) {
    parts.push(list([[media, `body: ${type(body.schema)}`]]));
  }
  const answers = Object.entries(content.responses).map(
    ([status, answer]) => `${status}${answer.description && status < 400 ? ` ${answer.description}` : ""}`,
  );
  parts.push(element("p", `Answers: ${answers.join("; ")}.`));
  return element("section", ...parts);
}

const description = await (await fetch("/openapi.json")).json();
document.querySelector("#about").prepend(`${description.info.description} `);
const operations = document.querySelector("#operations");
for (const [path, methods] of Object.entries(description.paths)) {
  const { parameters = [], ...rest } = methods;
  for (const [method, content] of Object.entries(rest)) {
    operations.append(operation(path, method, content, parameters));
  }
}
const schemas = document.querySelector("#schemas");
for (const [name, schema] of Object.entries(description.components.schemas)) {
  const entries = Object.entries(schema.properties).map(([key, value]) => [key, type(value)]);
  schemas.append(element("h3", name), list(entries));
}
