// Prints the keys and tensors of a GGUF file as another implementation reads them, one line of JSON each:
//
//   node gguf_reader.mjs PACKAGES FILE      PACKAGES: a folder that holds node_modules/@huggingface/gguf
import { createRequire } from "node:module";
import { resolve } from "node:path";

const [packages, file] = process.argv.slice(2);
const { gguf } = createRequire(resolve(packages) + "/")("@huggingface/gguf");

// JSON has no 64-bit integers, no infinities and no NaN.
const exact = (_, value) =>
  typeof value === "bigint" || (typeof value === "number" && !Number.isFinite(value)) ? String(value) : value;

const { typedMetadata, tensorInfos } = await gguf(file, { allowLocalFile: true, typedMetadata: true });
const { version, tensor_count, kv_count, ...keys } = typedMetadata; // the header's; our version is always 3
for (const [key, facts] of Object.entries(keys)) console.log(JSON.stringify({ key, ...facts }, exact));
for (const { name, shape, dtype } of tensorInfos) console.log(JSON.stringify({ name, shape, dtype }, exact));
