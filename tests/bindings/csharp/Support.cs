using Infini;
using Xunit;

/// <summary>What the tests share. INFINI_SOURCE is the folder of the sources.</summary>
internal static class Support
{
    internal static readonly string Source = Environment.GetEnvironmentVariable("INFINI_SOURCE")!;
    internal static readonly string Stories = Path.Combine(Source, "samples/models/stories260K.gguf");

    internal static Options Greedy(long maxTokens = 120) =>
        new() { { "compute", "f32" }, { "threads", 1 }, { "temperature", 0 }, { "max_tokens", maxTokens } };

    internal static Model Open() => Model.Open(Stories, Greedy());

    internal static void Fails(Status status, string words, Action call)
    {
        var e = Assert.Throws<InfiniException>(call);
        Assert.Equal(status, e.Status);
        Assert.Contains(words, e.Message);
    }

    /// <summary>Memory that the process holds, in bytes.</summary>
    internal static long Resident() => long.Parse(File.ReadAllText("/proc/self/statm").Split(' ')[1]) * 4096;

    internal sealed class Hearer : IProgress<Progress>
    {
        public Progress Last { get; private set; }
        public void Report(Progress value) => Last = value;
    }
}
