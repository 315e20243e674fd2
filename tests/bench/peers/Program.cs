// Infini beside llama.cpp, from their public packages (peers.sh builds and runs this):
//
//     logits SOURCE                            logits of tiny models: ten architectures, and each in every format
//     compare OUT TEXT THREADS DEPTHS MODEL... speed, memory, state, opening time and NLL of whole models, into
//                                              OUT/results.json, table.md and charts.json; each side in a process of its own
//     shapes FOLDER                            writes models with random weights in the shapes of larger ones, for `compare`
//     measure SIDE MODEL TOKENS THREADS DEPTHS one side of that, as JSON
using System.Diagnostics;
using System.Globalization;
using System.Runtime.InteropServices;
using System.Runtime.Intrinsics.X86;
using System.Text.Json;
using Infini;
using LLama;
using LLama.Common;
using LLama.Exceptions;
using LLama.Native;

CultureInfo.CurrentCulture = CultureInfo.InvariantCulture;
switch (args)
{
    case ["logits", var source]: return Logits.Run(source);
    case ["compare", var to, var text, var threads, var depths, .. var models]: return Comparison.Run(to, text, threads, depths, models);
    case ["shapes", var folder]: return Shapes.Write(folder);
    case ["measure", var side, var model, var tokens, var threads, var depths]:
        Console.WriteLine(JsonSerializer.Serialize(Side.Measure(side, model, tokens, int.Parse(threads), [.. depths.Split(',').Select(int.Parse)])));
        return 0;
}
Console.Error.WriteLine("logits SOURCE | compare OUT TEXT THREADS DEPTHS MODEL... | shapes FOLDER | measure infini|llama.cpp MODEL TOKENS THREADS DEPTHS");
return 2;

/// <summary>A stream through a model of either library.</summary>
internal interface IStream : IDisposable
{
    /// <summary>Reads tokens.</summary>
    void Feed(ReadOnlySpan<int> tokens);
    /// <summary>Writes so many tokens, the likeliest each.</summary>
    void Generate(int count);
    /// <summary>What comes after Mark is undone by Back.</summary>
    void Mark();
    void Back();
    long StateBytes { get; }
    double Nll(ReadOnlySpan<int> tokens);
}

internal sealed class Ours : IStream
{
    private readonly Model model;
    private readonly Session marked;
    private Session at;

    public Ours(string path, int threads, InfiniModelOptions options)
    {
        options.Threads = threads;
        model = Model.Open(path, options);
        at = marked = model.CreateSession(new() { Threads = threads, Temperature = 0, MaxTokens = -1, IgnoreEnd = true });
    }

    /// <summary>Local attention sees everything, as full attention does.</summary>
    public static InfiniModelOptions Full(string compute = "auto", int tokens = 4096) =>
        new() { Compute = compute, Memory = "off", Segment = tokens, Carry = 0, Sinks = 0 };

    public static float[] Logits(string path, int[] tokens, string compute, string? adapter = null)
    {
        var how = Full(compute, 256);
        how.Adapter = adapter;
        using var stream = new Ours(path, 1, how);
        return stream.at.FeedLogits(tokens);
    }

    public int[] Tokens(string text) => model.Tokenize(text, start: true);
    public void Feed(ReadOnlySpan<int> tokens) => at.Feed(tokens);
    public void Generate(int count)
    {
        for (int i = 0; i < count; i++) at.NextToken();
    }
    public void Mark() => at = marked.Fork();
    public void Back()
    {
        if (at != marked) at.Dispose();
        at = marked;
    }
    public long StateBytes => at.Info().StateBytes;
    public double Nll(ReadOnlySpan<int> tokens) => at.Score(tokens)[1..].Average(nll => (double)nll);
    public void Dispose()
    {
        Back();
        marked.Dispose();
        model.Dispose();
    }
}

internal sealed class Theirs : IStream
{
    private const int Chunk = 512;
    private readonly LLamaWeights weights;
    private readonly LLamaContext context;
    private readonly LLamaBatch batch = new();
    private int position, mark, last;
    private static string words = ""; // of its errors

    static Theirs()
    {
        // What LLamaSharp would choose by itself, but also where its build for older .NET does not look.
        NativeLibraryConfig.All.WithLogCallback((level, line) => words = level == LLamaLogLevel.Error ? words + line : words)
            .WithAvx(Avx512F.IsSupported ? AvxLevel.Avx512 : Avx2.IsSupported ? AvxLevel.Avx2 : Avx.IsSupported ? AvxLevel.Avx : AvxLevel.None);
    }

    /// <param name="tokenizer">Whether the file has one, for which llama.cpp asks.</param>
    /// <param name="exact">Keys and values in 32 bits; else all as llama.cpp has it by default.</param>
    public Theirs(string path, int threads, int room, bool exact = false, bool tokenizer = true)
    {
        var how = new ModelParams(path) { ContextSize = (uint)room, Threads = threads, BatchThreads = threads, BatchSize = Chunk, UBatchSize = Chunk };
        if (exact) (how.TypeK, how.TypeV, how.FlashAttention) = (GGMLType.GGML_TYPE_F32, GGMLType.GGML_TYPE_F32, false);
        if (!tokenizer) how.MetadataOverrides.Add(new("tokenizer.ggml.model", "no_vocab"));
        try { weights = LLamaWeights.LoadFromFile(how); }
        catch (LoadWeightsFailedException) { throw new InvalidOperationException($"llama.cpp does not open {path}: {words}"); }
        context = weights.CreateContext(how);
    }

    /// <summary>The instructions that it was built for.</summary>
    public static string Built => Marshal.PtrToStringAnsi(NativeApi.llama_print_system_info())!;

    public static float[] Logits(string path, int[] tokens, string? adapter = null)
    {
        using var stream = new Theirs(path, 1, 256, exact: true);
        if (adapter != null)
            stream.context.NativeHandle.SetLoraAdapters(new[] { (stream.weights.NativeHandle.LoadLoraFromFile(adapter), 1f) });
        var all = new List<float>();
        stream.Decode(tokens, (_, logits) => all.AddRange(logits.ToArray()));
        return [.. all];
    }

    private delegate void Row(int index, ReadOnlySpan<float> logits);

    private void Decode(ReadOnlySpan<int> tokens, Row? each)
    {
        for (int done = 0; done < tokens.Length; done += Chunk)
        {
            int count = Math.Min(Chunk, tokens.Length - done);
            batch.Clear();
            for (int i = 0; i < count; i++)
                batch.Add(tokens[done + i], position + i, LLamaSeqId.Zero, each != null || done + i + 1 == tokens.Length);
            if (context.NativeHandle.Decode(batch) != DecodeResult.Ok) throw new InvalidOperationException("llama.cpp did not decode");
            position += count;
            for (int i = 0; each != null && i < count; i++) each(done + i, context.NativeHandle.GetLogitsIth(i));
            if (done + count == tokens.Length) last = Likeliest(context.NativeHandle.GetLogitsIth(count - 1));
        }
    }

    private static int Likeliest(ReadOnlySpan<float> logits)
    {
        int best = 0;
        for (int i = 1; i < logits.Length; i++)
            if (logits[i] > logits[best]) best = i;
        return best;
    }

    public void Feed(ReadOnlySpan<int> tokens) => Decode(tokens, null);
    public void Generate(int count)
    {
        for (int i = 0; i < count; i++) Decode([last], null);
    }
    public void Mark() => mark = position;
    public void Back()
    {
        context.NativeHandle.MemorySequenceRemove(LLamaSeqId.Zero, mark, -1);
        position = mark;
    }
    public long StateBytes => (long)context.NativeHandle.GetStateSize();
    public double Nll(ReadOnlySpan<int> tokens)
    {
        int[] next = tokens.ToArray();
        double sum = 0;
        Decode(tokens[..^1], (i, logits) =>
        {
            double greatest = logits[Likeliest(logits)], total = 0;
            foreach (float logit in logits) total += Math.Exp(logit - greatest);
            sum += greatest + Math.Log(total) - logits[next[i + 1]];
        });
        return sum / (tokens.Length - 1);
    }
    public void Dispose()
    {
        context.Dispose();
        weights.Dispose();
    }
}

/// <summary>Logits of both sides for the same file, in deviations of the logits. Bounds: with weights in f32 it is the order of
/// sums that differs, and llama.cpp's GELU, which it takes from a table of f16; of weights in f16 and bf16 llama.cpp rounds
/// activations likewise, where ours stay in f32. Of weights in blocks both round activations to 8 bits, each in its own way: so
/// each is held against our products in f32, and ours may lie no further from them than 1.25 times what llama.cpp's do.</summary>
internal static class Logits
{
    private const double Further = 1.25;
    private static readonly string[] Architectures = ["llama", "qwen2", "qwen3", "gemma", "gemma2", "gemma3", "phi3", "olmo2", "smollm3", "granite"];
    private static readonly Dictionary<string, double> Floats = new() { ["f32"] = 1e-4, ["f16"] = 2e-3, ["bf16"] = 2e-2 };
    private static readonly string[] Blocks = ["q8_0", "q4_0", "q4_1", "q5_0", "q5_1", "q2_k", "q3_k", "q4_k", "q5_k", "q6_k", "iq4_nl", "iq4_xs"];
    private const double BlocksBound = 7e-2;
    private static readonly LLamaFtype[] Mixtures = // llama.cpp's own files, of several types each
    [
        LLamaFtype.MOSTLY_Q2_K, LLamaFtype.MOSTLY_Q3_K_M, LLamaFtype.MOSTLY_Q4_K_M, LLamaFtype.MOSTLY_Q5_K_M, LLamaFtype.MOSTLY_Q6_K,
        LLamaFtype.MOSTLY_IQ4_NL, LLamaFtype.MOSTLY_IQ4_XS, LLamaFtype.MOSTLY_Q4_0, LLamaFtype.MOSTLY_Q5_1, LLamaFtype.MOSTLY_Q8_0,
    ];
    private const double Moved = 0.03; // at least, by the adapter

    public static int Run(string source)
    {
        int[] tokens = [.. File.ReadAllText(Path.Combine(source, "tests/fixtures/arch/tokens.txt")).Split(',').Select(int.Parse)];
        string folder = Directory.CreateTempSubdirectory("peers").FullName,
            made = Path.Combine(folder, "made.gguf"), cut = Path.Combine(folder, "cut.gguf");
        var worst = new Dictionary<string, (double Theirs, double Ours)>();
        bool good = true;
        foreach (string architecture in Architectures)
        {
            try { good &= OfArchitecture(architecture); }
            catch (Exception e) when (e is InvalidOperationException or InfiniException)
            {
                Console.WriteLine($"{architecture}: {e.Message}");
                good = false;
            }
        }
        Directory.Delete(folder, true);
        Console.WriteLine("\n| weights | llama.cpp's logits from ours in f32 | ours in int8 from ours in f32 |\n|---|---|---|");
        foreach (var (format, (theirs, ours)) in worst) Console.WriteLine($"| {format} | {theirs:G2} | {(ours > 0 ? $"{ours:G2}" : "")} |");
        Console.WriteLine("\nIn deviations of the logits; of ten architectures the greatest.");
        return good ? 0 : 1;

        bool OfArchitecture(string architecture)
        {
            bool gemma = architecture.StartsWith("gemma"); // of which llama.cpp knows no output matrix apart from the embedding
            string fixture = Path.Combine(source, $"tests/fixtures/arch/{architecture}.gguf");
            bool well = Compare(architecture, "fixture", fixture, gemma ? 1e-3 : 1e-4);
            using (var model = Model.Create($$"""
                {"architecture": "{{architecture}}", "layers": 2, "width": 256, "heads": 4, "kv_heads": 2, "hidden": 512,
                 "window": {{(architecture is "gemma2" or "gemma3" ? 32 : 0)}}, "tokenizer": "{{source}}/samples/models/stories260K.gguf"}
                """)) model.Save(made);
            string adapter = Adapter(made);
            foreach (string format in Floats.Keys.Concat(Blocks))
            {
                double bound = Math.Max(Floats.GetValueOrDefault(format, BlocksBound), gemma ? 1e-3 : 0);
                Model.Quantize(made, cut, format);
                well &= Compare(architecture, format, cut, bound);
                if (format is "f32" or "q8_0") well &= Compare(architecture, $"{format}, LoRA", cut, bound, adapter);
            }
            foreach (LLamaFtype mixture in architecture == "llama" ? Mixtures : [])
            {
                if (!LLamaQuantizer.Quantize(made, cut, mixture, nthread: 1, quantizeOutputTensor: true))
                    throw new InvalidOperationException($"llama.cpp writes no {mixture}");
                well &= Compare(architecture, $"llama.cpp's {mixture}", cut, BlocksBound);
            }
            return well;
        }

        // LoRA of a few steps of training.
        string Adapter(string model)
        {
            string path = Path.Combine(folder, "adapter.gguf");
            using var opened = Model.Open(model);
            using var trainer = opened.CreateTrainer($$$"""
                {"training": {"train": "lora", "lora": {"rank": 8, "targets": ["q", "k", "v", "o", "gate", "up", "down"]},
                              "rate": 0.05, "tokens": 256, "segment": 64, "segments": 4, "gates": [[-1, -1, null]]},
                 "data": {"type": "text", "files": ["{{{source}}}/samples/texts/lord_jim.txt"]}}
                """);
            trainer.Run(4);
            trainer.WriteAdapter(path);
            return path;
        }

        bool Compare(string architecture, string format, string file, double bound, string? adapter = null)
        {
            float[] exact = Ours.Logits(file, tokens, "f32", adapter);
            double theirs = Difference(Theirs.Logits(file, tokens, adapter), exact);
            double ours = bound == BlocksBound && adapter == null ? Difference(Ours.Logits(file, tokens, "int8"), exact) : 0;
            if (adapter != null && Difference(Ours.Logits(file, tokens, "f32"), exact) is < Moved and var moved)
            {
                Console.WriteLine($"{architecture}: the adapter moves the logits by {moved:G3} only");
                return false;
            }
            var before = worst.GetValueOrDefault(format);
            worst[format] = (Math.Max(before.Theirs, theirs), Math.Max(before.Ours, ours));
            if (theirs < bound && ours < Further * theirs + 1e-9) return true;
            Console.WriteLine($"{architecture} {format}: llama.cpp is {theirs:G3} away, bound {bound}; int8 {ours:G3}");
            return false;
        }
    }

    // Root of the mean square of the differences, over the deviation of the logits.
    private static double Difference(float[] a, float[] b)
    {
        if (a.Length != b.Length) throw new InvalidOperationException($"{a.Length} logits against {b.Length}");
        double mean = b.Average(x => (double)x);
        return Math.Sqrt(a.Zip(b, (x, y) => ((double)x - y) * ((double)x - y)).Sum() / b.Sum(y => (y - mean) * (y - mean)));
    }
}

/// <summary>What one side does at a depth: the best of three runs, and the worst, which tells how noisy the machine was.</summary>
/// <param name="ResidentBytes">What the process holds more than before the model was opened, mapped pages of the file included.</param>
internal sealed record Point(int Depth, double Feed, double FeedWorst, double Generate, double GenerateWorst, long StateBytes, long ResidentBytes);

/// <param name="Nll">Of the first tokens, each predicted from all before it.</param>
internal sealed record Side(string Name, string Built, double OpenSeconds, double Nll, Point[] Points)
{
    public const string RandomTokens = "random.txt"; // of a model without a tokenizer
    private const int Runs = 3, Fed = 512, Written = 32, Scored = 2048;

    public static Side Measure(string name, string path, string tokenFile, int threads, int[] depths)
    {
        int[] tokens = File.ReadAllText(tokenFile).Split(',').Select(int.Parse).ToArray();
        bool tokenizer = !tokenFile.EndsWith(RandomTokens);
        int room = Math.Max(depths.Max() + Fed + 256, Scored);
        IStream Open(InfiniModelOptions how) => name == "infini" ? new Ours(path, threads, how) : new Theirs(path, threads, room, tokenizer: tokenizer);
        string built = name == "infini" ? InfiniLibrary.Version : Theirs.Built;
        long before = Resident();
        var clock = Clock(threads);
        double start = clock();
        var points = new List<Point>();
        double open;
        using (var stream = Open(new() { Memory = "open" }))
        {
            open = clock() - start;
            int at = 0;
            foreach (int depth in depths)
            {
                stream.Feed(tokens.AsSpan(at, depth - at));
                at = depth;
                var (feed, feedWorst) = Speeds(stream, Fed, clock, () => { }, () => stream.Feed(tokens.AsSpan(depth, Fed)));
                var (generate, worst) = Speeds(stream, Written, clock, () => stream.Feed(tokens.AsSpan(depth, 1)), () => stream.Generate(Written));
                points.Add(new(depth, feed, feedWorst, generate, worst, stream.StateBytes, Resident() - before));
            }
        }
        start = clock();
        using (var stream = Open(Ours.Full(tokens: Scored)))
            return new(name, built, Math.Min(open, clock() - start), stream.Nll(tokens.AsSpan(0, Scored)), [.. points]);
    }

    private static (double Best, double Worst) Speeds(IStream stream, int tokens, Func<double> clock, Action before, Action timed)
    {
        var speeds = Enumerable.Range(0, Runs).Select(_ =>
        {
            stream.Mark();
            before();
            double start = clock();
            timed();
            double speed = tokens / (clock() - start);
            stream.Back();
            return speed;
        }).ToList();
        return (speeds.Max(), speeds.Min());
    }

    // Seconds; on one thread those of the processor, which are nearly the same when others want it too.
    public static Func<double> Clock(int threads)
    {
        var watch = Stopwatch.StartNew();
        return () => threads == 1 ? Environment.CpuUsage.TotalTime.TotalSeconds : watch.Elapsed.TotalSeconds;
    }

    private static long Resident() =>
        Environment.SystemPageSize * long.Parse(File.ReadAllText("/proc/self/statm").Split(' ')[1]);
}

internal static class Shapes
{
    private static readonly (string Name, string Shape)[] All =
    [
        ("Qwen3-0.6B", """
            "architecture": "qwen3", "layers": 28, "width": 1024, "heads": 16, "kv_heads": 8, "head_size": 128, "hidden": 3072,
            "vocabulary": 151936, "rope_base": 1e6
            """),
        ("Llama-3.2-1B", """
            "architecture": "llama", "layers": 16, "width": 2048, "heads": 32, "kv_heads": 8, "head_size": 64, "hidden": 8192,
            "vocabulary": 128256, "rope_base": 5e5
            """),
        ("Gemma-3-1B", """
            "architecture": "gemma3", "layers": 26, "width": 1152, "heads": 4, "kv_heads": 1, "head_size": 256, "hidden": 6912,
            "vocabulary": 262144, "rope_base": 1e6, "window": 512
            """),
    ];

    public static int Write(string folder)
    {
        Directory.CreateDirectory(folder);
        foreach (var (name, shape) in All)
        {
            string made = Path.Combine(folder, "made.gguf");
            using (var model = Model.Create($$"""{{{shape}}, "tied": true, "context": 32768, "segment": 2048, "carry": 2048, "sinks": 4}"""))
                model.Save(made);
            foreach (string type in new[] { "q4_k", "q8_0" }) Model.Quantize(made, Path.Combine(folder, $"{name}.{type}.gguf"), type);
            File.Delete(made);
            Console.WriteLine($"{name}: q4_k, q8_0");
        }
        return 0;
    }
}

internal sealed record Compared(string Model, long FileBytes, double ReadSeconds, Side[] Sides);

internal static class Comparison
{
    public static int Run(string to, string text, string threads, string depths, string[] models)
    {
        Directory.CreateDirectory(to);
        var all = new List<Compared>();
        foreach (string path in models) // what was measured stands there when one fails
        {
            all.Add(Compare(to, text, threads, depths, path));
            File.WriteAllText(Path.Combine(to, "results.json"), Json(new { threads = int.Parse(threads), results = all }));
            File.WriteAllText(Path.Combine(to, "charts.json"), Json(new { charts = Charts(all) }));
            File.WriteAllText(Path.Combine(to, "table.md"), Table(all, threads));
        }
        Console.Write(Table(all, threads));
        return 0;
    }

    private static string Json(object value) => JsonSerializer.Serialize(value, new JsonSerializerOptions { WriteIndented = true }) + "\n";

    private static Compared Compare(string to, string text, string threads, string depths, string path)
    {
        string tokens;
        using (var model = Model.Open(path))
        {
            bool random = model.Info().Tokenizer == null;
            var generator = new Random(1);
            tokens = Path.Combine(to, random ? Side.RandomTokens : "tokens.txt");
            File.WriteAllText(tokens, string.Join(',', random ? Enumerable.Range(0, 1 << 17).Select(_ => generator.Next(model.Vocabulary))
                                                              : model.Tokenize(File.ReadAllText(text), start: true)));
        }
        var clock = Side.Clock(int.Parse(threads));
        double start = clock();
        long size = File.ReadAllBytes(path).LongLength;
        double read = clock() - start;
        return new(Path.GetFileNameWithoutExtension(path), size, read, new[] { "infini", "llama.cpp" }.Select(side =>
        {
            string[] measure = [typeof(Comparison).Assembly.Location, "measure", side, path, tokens, threads, depths];
            var how = new ProcessStartInfo(Environment.ProcessPath!, measure) { RedirectStandardOutput = true };
            using var child = Process.Start(how)!;
            string answer = child.StandardOutput.ReadToEnd();
            child.WaitForExit();
            if (child.ExitCode != 0) throw new InvalidOperationException($"{side} did not measure {path}");
            Console.Error.WriteLine($"{side}: {answer.Trim()}");
            return JsonSerializer.Deserialize<Side>(answer)!;
        }).ToArray());
    }

    private static string Depth(int depth) => depth < 1024 ? $"{depth}" : $"{depth / 1024}K";

    private static string Table(List<Compared> all, string threads)
    {
        var at = all[0].Sides[0].Points.Select(point => Depth(point.Depth)).ToArray();
        string[] head = ["model", "library", .. at.Select(d => $"feed at {d}"), .. at.Select(d => $"generate at {d}"), .. at.Select(d => $"state at {d}"),
                         "resident, of a file", "opening, of a read", "NLL"];
        var lines = new List<string[]> { head, Enumerable.Repeat("---", head.Length).ToArray() };
        foreach (var model in all)
        {
            foreach (var side in model.Sides)
                lines.Add([model.Model, side.Name, .. side.Points.Select(p => $"{p.Feed:N0}"), .. side.Points.Select(p => $"{p.Generate:N1}"),
                           .. side.Points.Select(p => $"{p.StateBytes / 1e6:N1} MB"),
                           $"{side.Points[^1].ResidentBytes / 1e6:N0} MB, {(double)side.Points[^1].ResidentBytes / model.FileBytes:N2}",
                           $"{side.OpenSeconds * 1000:N0} ms, {side.OpenSeconds / model.ReadSeconds:N1}",
                           $"{side.Nll:N4}"]);
            Point[] ours = model.Sides[0].Points, theirs = model.Sides[1].Points;
            IEnumerable<string> Over(Func<Point, double> value) =>
                ours.Zip(theirs, (a, b) => value(b) > 0 ? $"{value(a) / value(b):N2}" : "");
            lines.Add([model.Model, "infini / llama.cpp", .. Over(p => p.Feed), .. Over(p => p.Generate), .. Over(p => p.Depth == 0 ? 0 : p.StateBytes),
                       "", "", $"{model.Sides[0].Nll - model.Sides[1].Nll:F4}"]);
        }
        double noise = all.SelectMany(m => m.Sides).SelectMany(s => s.Points).Average(p => (p.FeedWorst / p.Feed + p.GenerateWorst / p.Generate) / 2);
        string unit = threads == "1" ? "of the processor's time on one thread" : $"on {threads} threads";
        return $"Tokens a second {unit}, best of three; the worst of three is {noise:N2} of it on average. llama.cpp is the prebuilt library of "
               + $"LLamaSharp.Backend.Cpu, which is not built for the newest instructions: {all[0].Sides[1].Built.Trim()}\n\n"
               + string.Concat(lines.Select(line => $"| {string.Join(" | ", line)} |\n"));
    }

    private static object[] Charts(List<Compared> all)
    {
        object Chart(string title, string unit, Func<Point, double> value) => new
        {
            title, x_label = "tokens before", y_label = unit,
            series = all.SelectMany(m => m.Sides.Select(s => new
            {
                label = all.Count == 1 ? s.Name : $"{s.Name}, {m.Model}", x = s.Points.Select(p => p.Depth), y = s.Points.Select(value),
            })),
        };
        return [Chart("Feeding", "tokens/s", p => p.Feed), Chart("Generating", "tokens/s", p => p.Generate),
                Chart("Resident memory", "MB", p => p.ResidentBytes / 1e6), Chart("State", "MB", p => p.StateBytes / 1e6)];
    }
}
