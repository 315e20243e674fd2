using System.Globalization;
using System.Runtime.CompilerServices;
using System.Text.Json;

namespace Infini;

/// <summary>Options of the library, by property or by name; what is not set, or null, has its default.
/// <see cref="InfiniLibrary.DescribeOptions"/> lists names, ranges and defaults. A method that is given options reads them
/// and keeps nothing; it checks the values. One thread at a time.</summary>
public abstract class InfiniOptions
{
    private readonly Dictionary<string, object> values = [];

    private protected InfiniOptions()
    {
    }

    /// <summary>An option by its name in the library, such as "max_tokens".</summary>
    /// <param name="name">The option; the method that is given the options refuses one that it does not know.</param>
    /// <value>An integer, a number, a text, a truth value or a list of texts; null: not set.</value>
    /// <exception cref="ArgumentException">The value is of another type.</exception>
    public object? this[string name]
    {
        get => values.GetValueOrDefault(name);
        set
        {
            object? kept = value switch
            {
                null or bool or long or double or string or IReadOnlyDictionary<int, double> => value,
                int number => (long)number,
                float number => (double)number,
                IEnumerable<string> texts => texts.Select(text => text ?? throw new ArgumentException(
                    $"option '{name}' has a text that is null", nameof(value))).ToArray(),
                _ => throw new ArgumentException($"option '{name}' is a {value.GetType()}, but options are integers, numbers, "
                    + "texts, truth values, lists of texts or numbers by token", nameof(value)),
            };
            if (kept is null) values.Remove(name);
            else values[name] = kept;
        }
    }

    /// <summary>What was set, in no order.</summary>
    public IReadOnlyDictionary<string, object> Values => values;

    /// <summary>Threads of a call; 0 (default): one a physical core.</summary>
    public long? Threads { get => Integer(); set => Set(value); }

    // What a property has; its name is the option's in another spelling.
    private protected object? Get([CallerMemberName] string property = "") => this[NameOf(property)];

    private protected long? Integer([CallerMemberName] string property = "") =>
        Get(property) is { } value ? Convert.ToInt64(value, CultureInfo.InvariantCulture) : null;

    private protected double? Number([CallerMemberName] string property = "") =>
        Get(property) is { } value ? Convert.ToDouble(value, CultureInfo.InvariantCulture) : null;

    private protected bool? Flag([CallerMemberName] string property = "") =>
        Get(property) is { } value ? Convert.ToBoolean(value, CultureInfo.InvariantCulture) : null;

    private protected void Set(object? value, [CallerMemberName] string property = "") => this[NameOf(property)] = value;

    private static string NameOf(string property) => JsonNamingPolicy.SnakeCaseLower.ConvertName(property);

    /// <summary>Runs a call with options that may be null, in the library's form.</summary>
    internal static void With(InfiniOptions? options, Action<OptionsHandle> call)
    {
        if (options is null)
        {
            call(OptionsHandle.None);
            return;
        }
        InfiniException.Check(Native.infini_options_create(out var handle));
        using (handle)
        {
            foreach (var (name, value) in options.values)
            {
                InfiniException.Check(value switch
                {
                    bool flag => Native.infini_options_set_int(handle, name, flag ? 1 : 0),
                    long number => Native.infini_options_set_int(handle, name, number),
                    double number => Native.infini_options_set_double(handle, name, number),
                    IReadOnlyDictionary<int, double> biases => Native.infini_options_set_string(handle, name, Written(biases)),
                    string[] texts => Native.infini_options_set_string(handle, name, Written(texts)),
                    _ => Native.infini_options_set_string(handle, name, (string)value),
                });
            }
            call(handle);
        }
    }

    // As the library reads lists: texts a line each, with escapes; biases by token.
    private static string Written(string[] texts) =>
        string.Join('\n', texts.Select(text => text.Replace("\\", "\\\\").Replace("\n", "\\n")));

    private static string Written(IReadOnlyDictionary<int, double> biases) => string.Join(',', biases.Select(pair =>
        string.Create(CultureInfo.InvariantCulture, $"{pair.Key}:") + (double.IsNegativeInfinity(pair.Value)
            ? "-inf" : pair.Value.ToString("R", CultureInfo.InvariantCulture))));
}

/// <summary>Options of a model: <c>new InfiniModelOptions { Threads = 2, Memory = "open" }</c>.</summary>
public sealed class InfiniModelOptions : InfiniOptions
{
    /// <summary>How weights are kept: "f32", "bf16" or "file" (default: blocks of a quantised file at their bits, the rest as
    /// <see cref="Compute"/> says).</summary>
    public string? Weights { get => Get() as string; set => Set(value); }

    /// <summary>Number type of products: "f32", "bf16", "int8" or "auto" (default: int8 for weights in blocks, else bf16 where
    /// the processor has it).</summary>
    public string? Compute { get => Get() as string; set => Set(value); }

    /// <summary>Keys and values that local attention sees: numbers as of products, "compute" (default), or "int8", half as
    /// large.</summary>
    public string? WindowType { get => Get() as string; set => Set(value); }

    /// <summary>Library for matrix products: "onednn", "openblas", "native" or "auto" (default).</summary>
    public string? Gemm { get => Get() as string; set => Set(value); }

    /// <summary>Gates of the memory: as in the "file" (default), all "open" at one half, or all "off".</summary>
    public string? Memory { get => Get() as string; set => Set(value); }

    /// <summary>Update rule of the memory: "linear", "delta" or as in the "file" (default).</summary>
    public string? Update { get => Get() as string; set => Set(value); }

    /// <summary>Tokens of a segment; 0 (default): as the model says.</summary>
    public long? Segment { get => Integer(); set => Set(value); }

    /// <summary>Tokens before the segment that local attention sees; -1 (default): as the model says.</summary>
    public long? Carry { get => Integer(); set => Set(value); }

    /// <summary>First tokens of the stream that local attention always sees; -1 (default): as the model says.</summary>
    public long? Sinks { get => Integer(); set => Set(value); }

    /// <summary>Tokens of sentences that stood out, which local attention sees for ever; -1 (default): as the model says.</summary>
    public long? Keep { get => Integer(); set => Set(value); }

    /// <summary>Path of a GGUF file with LoRA adapters, which change the model's products; none by default.</summary>
    public string? Adapter { get => Get() as string; set => Set(value); }

    /// <summary>How much the adapter counts, 1 by default; its memory's settings and gates are taken as they are.</summary>
    public double? AdapterWeight { get => Number(); set => Set(value); }
}

/// <summary>Options of a session and of its generation:
/// <c>new InfiniSessionOptions { MaxTokens = 100, Temperature = 0.7, Stop = ["\n\n"] }</c>.</summary>
public sealed class InfiniSessionOptions : InfiniOptions
{
    /// <summary>Tokens that are fed through the layers together; 512 by default.</summary>
    public long? Chunk { get => Integer(); set => Set(value); }

    /// <summary>Whether results do not depend, bit for bit, on how the input is cut or batched; slower.</summary>
    public bool? Deterministic { get => Flag(); set => Set(value); }

    /// <summary>Segment boundaries kept for <see cref="Session.Rewind"/>; none by default.</summary>
    public long? Checkpoints { get => Integer(); set => Set(value); }

    /// <summary>Whether <see cref="Session.Rewind"/> takes the sampler and the penalties back too.</summary>
    public bool? RewindSampler { get => Flag(); set => Set(value); }

    /// <summary>Zstandard level of snapshots; 0 (default): not compressed.</summary>
    public long? Compress { get => Integer(); set => Set(value); }

    /// <summary>Tokens after which generation ends, 256 by default; -1: no limit.</summary>
    public long? MaxTokens { get => Integer(); set => Set(value); }

    /// <summary>0 (default): always the likeliest token.</summary>
    public double? Temperature { get => Number(); set => Set(value); }

    /// <summary>Sample among the k likeliest tokens; 0 (default): all.</summary>
    public long? TopK { get => Integer(); set => Set(value); }

    /// <summary>Sample among the likeliest tokens that together reach p; 1 (default): all.</summary>
    public double? TopP { get => Number(); set => Set(value); }

    /// <summary>Sample among tokens at least so many times as likely as the likeliest; 0 (default): all.</summary>
    public double? MinP { get => Number(); set => Set(value); }

    /// <summary>Divides positive logits of recent tokens and multiplies negative ones; 1 (default): none.</summary>
    public double? RepetitionPenalty { get => Number(); set => Set(value); }

    /// <summary>Is subtracted from the logits of recent tokens; 0 by default.</summary>
    public double? PresencePenalty { get => Number(); set => Set(value); }

    /// <summary>Is subtracted from the logit of a recent token once for each time it occurs; 0 by default.</summary>
    public double? FrequencyPenalty { get => Number(); set => Set(value); }

    /// <summary>How many of the last tokens count as recent; 64 by default.</summary>
    public long? PenaltyWindow { get => Integer(); set => Set(value); }

    /// <summary>What is added to the logit of each token; negative infinity forbids it.</summary>
    public IReadOnlyDictionary<int, double>? LogitBias { get => Get() as IReadOnlyDictionary<int, double>; set => Set(value); }

    /// <summary>Setting it restarts the random generator.</summary>
    public long? Seed { get => Integer(); set => Set(value); }

    /// <summary>Texts that end generation.</summary>
    public IReadOnlyList<string>? Stop { get => Get() as IReadOnlyList<string>; set => Set(value); }

    /// <summary>Whether the end token does not end generation.</summary>
    public bool? IgnoreEnd { get => Flag(); set => Set(value); }

    /// <summary>Whether control tokens are parsed from text; never for text that is not trusted.</summary>
    public bool? Special { get => Flag(); set => Set(value); }

    /// <summary>What becomes of characters that the model has no token for: "error" (default), "skip" or "replace".</summary>
    public string? UnknownText { get => Get() as string; set => Set(value); }
}
