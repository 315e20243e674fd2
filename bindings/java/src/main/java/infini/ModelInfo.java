package infini;

import java.util.Collections;
import java.util.Map;
import java.util.TreeMap;

/**
 * What a model is. Of a tokenizer alone, numbers behind {@code vocabulary} are 0 and texts null.
 *
 * @param name of the model, as its file says
 * @param tokenizer its kind, "llama" or "gpt2"; null: none
 * @param tokens of the tokenizer
 * @param bos the token that begins a text, -1: none
 * @param eos the token that ends a text, -1: none
 * @param chatTemplate "chatml", "llama2", ..., "other"; "unknown": it cannot be used; null: none
 * @param vocabulary tokens that the model knows: the length of a row of logits
 * @param architecture "llama", ...
 * @param parameters how many there are
 * @param tensorTypes how many tensors of the file are of each type: "Q4_0", "F32"; empty for a tokenizer alone
 * @param adaptedMatrices matrices whose products an adapter changes
 * @param layers how many there are
 * @param width of the residual stream, and so of an embedding
 * @param heads of a layer
 * @param kvHeads heads of a layer that have keys and values of their own
 * @param keySize features of a key
 * @param valueSize features of a value
 * @param hidden width of the feed-forward layers
 * @param context tokens it was trained for
 * @param compute number type of products, "f32", "bf16" or "int8"
 * @param gemm library for matrix products
 * @param weightBytes of the weights, packed for this processor
 * @param trainedMemory whether the file has a memory that was trained: where not, the model sees its window alone
 * @param memoryHeads KV heads of all layers that keep a memory
 * @param segment tokens of a segment
 * @param carry tokens before the segment that local attention sees
 * @param sinks first tokens of the stream that local attention always sees
 * @param keep tokens of sentences that stood out and stay in view, at most; 0: none
 * @param window tokens that local attention sees at most
 * @param windowType number type of their keys and values, "f32", "bf16" or "int8"
 * @param windowedLayers layers that have a window of their own, and no memory
 * @param update rule of the memory, "linear" or "delta"
 * @param firstSegment "gated" or "ungated"
 * @param epsilon added to what the memory finds before it is divided by that
 * @param json the whole as the library wrote it
 */
public record ModelInfo(String name, String tokenizer, int tokens, int bos, int eos, String chatTemplate, int vocabulary,
    String architecture, long parameters, Map<String, Long> tensorTypes, int adaptedMatrices, int layers, int width, int heads, int kvHeads, int keySize, int valueSize,
    int hidden, long context, String compute, String gemm, long weightBytes, boolean trainedMemory, int memoryHeads,
    int segment, int carry, int sinks, int keep, long window, String windowType, int windowedLayers, String update,
    String firstSegment, double epsilon, String json) {
  static ModelInfo of(String json) {
    Json of = Json.object(json);
    Map<String, Long> types = new TreeMap<>();
    of.part("tensor_types").all().forEach((type, count) -> types.put(type, (Long) count));
    return new ModelInfo(of.text("name"), of.text("tokenizer"), of.small("tokens"), of.small("bos"), of.small("eos"),
        of.text("chat_template"), of.small("vocabulary"), of.text("architecture"), of.whole("parameters"), Collections.unmodifiableMap(types),
        of.small("adapted_matrices"), of.small("layers"), of.small("width"), of.small("heads"), of.small("kv_heads"), of.small("key_size"),
        of.small("value_size"), of.small("hidden"), of.whole("context"), of.text("compute"), of.text("gemm"),
        of.whole("weight_bytes"), of.flag("trained_memory"), of.small("memory_heads"), of.small("segment"),
        of.small("carry"), of.small("sinks"), of.small("keep"), of.whole("window"), of.text("window_type"),
        of.small("windowed_layers"),
        of.text("update"), of.text("first_segment"), of.has("epsilon") ? of.real("epsilon") : 0, json);
  }
}
