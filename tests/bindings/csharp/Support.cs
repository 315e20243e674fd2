using Infini;
using Xunit;

/// <summary>What the tests share. INFINI_SOURCE is the folder of the sources, INFINI_CHAT a model
/// with a chat template.</summary>
internal static class Support
{
    internal static readonly string Source = Environment.GetEnvironmentVariable("INFINI_SOURCE")!;
    internal static readonly string Stories = Path.Combine(Source, "samples/models/stories260K.gguf");

    internal static readonly string ChatModel = Environment.GetEnvironmentVariable("INFINI_CHAT")!;

    internal static InfiniModelOptions Exact => new() { Compute = "f32", Threads = 1 };

    internal static InfiniSessionOptions Greedy(long maxTokens = 120) => new() { Threads = 1, Temperature = 0, MaxTokens = maxTokens };

    internal static Model Open() => Model.Open(Stories, Exact);

    internal static void Fails(Status status, string words, Action call)
    {
        var e = Assert.Throws<InfiniException>(call);
        Assert.Equal(status, e.Status);
        Assert.Contains(words, e.Message);
    }

    /// <summary>Memory that the process holds, in bytes.</summary>
    internal static long Resident() => long.Parse(File.ReadAllText("/proc/self/statm").Split(' ')[1]) * 4096;

    internal sealed class Hearer : IProgress<WorkProgress>
    {
        public WorkProgress Last { get; private set; }
        public bool Backwards { get; private set; }
        public int Heard { get; private set; }

        public void Report(WorkProgress value)
        {
            Backwards |= value.Done < Last.Done || (value.Total != 0 && value.Done > value.Total);
            (Last, Heard) = (value, Heard + 1);
        }
    }
}
