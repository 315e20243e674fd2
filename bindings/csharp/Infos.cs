using System.Text.Json;
using System.Text.Json.Serialization;

namespace Infini;

/// <summary>What a model is. Of a tokenizer alone, what is not about it is null, 0 or false.</summary>
/// <param name="Name">Its name.</param>
/// <param name="Tokenizer">"llama" or "gpt2"; null: it has none.</param>
/// <param name="Tokens">Of the tokenizer.</param>
/// <param name="Bos">The token that begins a text; -1: none.</param>
/// <param name="Eos">The token that ends a text; -1: none.</param>
/// <param name="ChatTemplate">"chatml", "llama2", ..., "other"; "unknown": it cannot be used; null: it has none.</param>
/// <param name="Vocabulary">The length of a row of logits.</param>
/// <param name="Architecture">As the file names it.</param>
/// <param name="Parameters">Their number.</param>
/// <param name="TensorTypes">How many tensors of the file are of each type: "Q4_0", "F32"; null for a tokenizer alone.</param>
/// <param name="AdaptedMatrices">Whose products an adapter changes.</param>
/// <param name="Layers">Their number.</param>
/// <param name="Width">The length of an embedding.</param>
/// <param name="Heads">Of queries, in a layer.</param>
/// <param name="KvHeads">Of keys and values, in a layer.</param>
/// <param name="KeySize">Numbers of a key.</param>
/// <param name="ValueSize">Numbers of a value.</param>
/// <param name="Hidden">Width of the feed-forward part.</param>
/// <param name="Context">Tokens that it was trained for.</param>
/// <param name="Compute">"f32", "bf16" or "int8".</param>
/// <param name="Gemm">The library for matrix products.</param>
/// <param name="WeightBytes">Of the packed weights.</param>
/// <param name="TrainedMemory">Whether the file has one; without it the model sees only its window.</param>
/// <param name="MemoryHeads">Heads of keys and values, of all layers, that keep a memory.</param>
/// <param name="Segment">Tokens of a segment.</param>
/// <param name="Carry">Tokens before the segment that local attention sees.</param>
/// <param name="Sinks">First tokens of the stream that local attention always sees.</param>
/// <param name="Keep">Tokens of sentences that stood out, which local attention sees for ever.</param>
/// <param name="Window">Tokens that local attention sees at most.</param>
/// <param name="WindowType">Of their keys and values: "f32", "bf16" or "int8".</param>
/// <param name="WindowedLayers">Layers with a window of their own, which have no memory.</param>
/// <param name="Update">The memory's rule: "linear" or "delta".</param>
/// <param name="FirstSegment">"gated" or "ungated".</param>
/// <param name="Epsilon">Of the memory.</param>
public sealed record ModelInfo(
    string Name, string? Tokenizer, int Tokens, int Bos, int Eos, string? ChatTemplate, int Vocabulary, string? Architecture,
    long Parameters, IReadOnlyDictionary<string, int>? TensorTypes, int AdaptedMatrices, int Layers, int Width, int Heads, int KvHeads,
    int KeySize, int ValueSize, int Hidden, long Context, string? Compute, string? Gemm, long WeightBytes,
    bool TrainedMemory, int MemoryHeads, long Segment, long Carry, long Sinks, long Keep,
    long Window, string? WindowType, int WindowedLayers, string? Update, string? FirstSegment, double Epsilon);

/// <summary>All numbers of a session.</summary>
/// <param name="Position">Tokens read since the stream began, generated ones included.</param>
/// <param name="SegmentPosition">Tokens in the open segment.</param>
/// <param name="MemoryTokens">Tokens that were folded into the memory.</param>
/// <param name="StateBytes">What a copy costs; bounded, however long the stream.</param>
/// <param name="CheckpointBytes">Of these, what the boundaries take that are kept.</param>
/// <param name="WorkspaceBytes">Buffers of the last chunk.</param>
/// <param name="SessionBytes">All that the session holds.</param>
/// <param name="RewindLimit">The earliest position that <see cref="Session.Rewind"/> reaches.</param>
/// <param name="Boundaries">Positions of the segment boundaries that are kept.</param>
/// <param name="StopReason">As <see cref="Session.StopReason"/>.</param>
/// <param name="ChatBegin">Position at which the conversation of <see cref="Session.Chat(ChatMessage[])"/> began; -1: there is
/// none.</param>
/// <param name="UnknownBytes">Of text that the model has no token for, which was skipped or replaced.</param>
/// <param name="WindowBegin">Position of the first token in view behind sinks and kept sentences.</param>
/// <param name="KeptTokens">Of sentences that stood out, or were marked, and stay in view.</param>
/// <param name="Kept">These sentences, in the order in which they are seen.</param>
/// <param name="Options">Those that were given or came from a snapshot: numbers and texts by name.</param>
public sealed record SessionInfo(
    long Position, long SegmentPosition, long MemoryTokens, long StateBytes, long CheckpointBytes, long WorkspaceBytes,
    long SessionBytes, long RewindLimit, IReadOnlyList<long> Boundaries, string StopReason, long ChatBegin,
    long UnknownBytes, long WindowBegin, long KeptTokens, IReadOnlyList<KeptSentence> Kept, IReadOnlyDictionary<string, JsonElement> Options);

/// <summary>A sentence that stays in view.</summary>
/// <param name="Position">Of its first token.</param>
/// <param name="Tokens">How many it has.</param>
/// <param name="Worth">What it is ranked by; 1e6: it was marked.</param>
public sealed record KeptSentence(long Position, long Tokens, double Worth);

/// <summary>What a snapshot holds.</summary>
/// <param name="Kind">"session" or "memory".</param>
/// <param name="Name">The caller's.</param>
/// <param name="Note">The same.</param>
/// <param name="Library">The version that wrote it.</param>
/// <param name="FormatVersion">Of the snapshot.</param>
/// <param name="Model">To which it belongs.</param>
/// <param name="View">Where in the stream it was taken.</param>
/// <param name="Size">In bytes.</param>
/// <param name="Sections">Its parts.</param>
/// <param name="Compute">Number type of the session's model; null for a memory.</param>
/// <param name="Options">Of generation: numbers and texts by name; null for a memory.</param>
public sealed record SnapshotInfo(
    string Kind, string Name, string Note, string Library, int FormatVersion, SnapshotModel Model, SnapshotView View, long Size,
    IReadOnlyList<SnapshotSection> Sections, string? Compute, IReadOnlyDictionary<string, JsonElement>? Options);

/// <summary>The model that a snapshot belongs to.</summary>
/// <param name="Name">Its name.</param>
/// <param name="Fingerprint">Of configuration, tokenizer and weights.</param>
public sealed record SnapshotModel(string Name, string Fingerprint);

/// <summary>Where in its stream a snapshot was taken.</summary>
/// <param name="Position">Tokens read.</param>
/// <param name="MemoryTokens">Tokens that were folded into the memory.</param>
public sealed record SnapshotView(long Position, long MemoryTokens);

/// <summary>A part of a snapshot.</summary>
/// <param name="Name">What it is.</param>
/// <param name="Offset">Where it stands, in bytes.</param>
/// <param name="StoredSize">Bytes in the snapshot.</param>
/// <param name="Size">Bytes before compression.</param>
/// <param name="Encoding">How it is stored.</param>
/// <param name="Checksum">Of the stored bytes.</param>
/// <param name="ContentChecksum">Of the bytes before compression; null where it was not asked to verify.</param>
public sealed record SnapshotSection(
    string Name, long Offset, long StoredSize, long Size, string Encoding, string Checksum, string? ContentChecksum);

/// <summary>An option of the library.</summary>
/// <param name="Name">As in <see cref="InfiniOptions"/>.</param>
/// <param name="Scope">What takes it: "model" (<see cref="InfiniModelOptions"/>), "session", "generation" and "text"
/// (<see cref="InfiniSessionOptions"/>), or "any" (both).</param>
/// <param name="Type">"int", "double" or "string".</param>
/// <param name="Default">A number or a text.</param>
/// <param name="Least">The least number; null where there is no range.</param>
/// <param name="Greatest">The greatest number; null where there is no range.</param>
/// <param name="Choices">The texts that are allowed; null: any.</param>
/// <param name="Help">What it is.</param>
public sealed record OptionInfo(
    string Name, string Scope, string Type, JsonElement Default, double? Least, double? Greatest,
    IReadOnlyList<string>? Choices, string Help);

/// <summary>What methods of long context hold for the past of a model.</summary>
/// <param name="Tokens">Length of the past.</param>
/// <param name="Methods">The methods; "infini_attention" is the memory alone.</param>
/// <param name="WindowBytes">Keys and values of the window of a session of the model; 0 where there is no model.</param>
/// <param name="SessionBytes">All that a session holds, however long the stream; 0 where there is no model.</param>
public sealed record Footprint(long Tokens, IReadOnlyList<MethodFootprint> Methods, long WindowBytes, long SessionBytes);

/// <summary>What one method holds.</summary>
/// <param name="Method">"kv_cache", "infini_attention", ...</param>
/// <param name="Values">Numbers held.</param>
/// <param name="Bytes">What they take.</param>
public sealed record MethodFootprint(string Method, long Values, long Bytes);

[JsonSourceGenerationOptions(PropertyNamingPolicy = JsonKnownNamingPolicy.SnakeCaseLower)]
[JsonSerializable(typeof(ModelInfo))]
[JsonSerializable(typeof(SessionInfo))]
[JsonSerializable(typeof(SnapshotInfo))]
[JsonSerializable(typeof(IReadOnlyList<OptionInfo>))]
[JsonSerializable(typeof(Footprint))]
[JsonSerializable(typeof(List<ChatMessage>))]
[JsonSerializable(typeof(TrainingReport))]
[JsonSerializable(typeof(TrainingEvaluation))]
internal sealed partial class LibraryJson : JsonSerializerContext;
