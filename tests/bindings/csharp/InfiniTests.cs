using System.Text;
using System.Text.RegularExpressions;
using Infini;
using Xunit;
using static Support;

[assembly: CollectionBehavior(DisableTestParallelization = true)]

/// <summary>What the C# package promises.</summary>
public sealed class InfiniTests
{
    private static readonly string Golden = File.ReadAllText(Path.Combine(Source, "tests/bindings/golden.txt"));

    private static string Transcript(Session session)
    {
        var text = new StringBuilder();
        foreach (string prompt in new[] { "Once upon a time", " Then Tom 😀 found a big red ball." })
        {
            session.Feed(prompt);
            text.Append("> ").Append(prompt).Append('\n').AppendJoin("", session.Generate()).Append('\n');
        }
        return text.Append($"tokens {session.Position}\n").ToString();
    }

    [Fact]
    public void GoldenTranscript()
    {
        using var model = Open();
        using var session = model.CreateSession(Greedy());
        Assert.Equal(Golden, Transcript(session));
    }

    [Fact]
    public void StatusesAreThoseOfTheHeader()
    {
        string header = File.ReadAllText(Path.Combine(Source, "capi/infini.h"));
        string statuses = Regex.Match(header, @"enum infini_status \{(.*?)\}", RegexOptions.Singleline).Groups[1].Value;
        var pinned = Regex.Matches(statuses, @"^  INFINI_([A-Z_]+) = (\d+),? ", RegexOptions.Multiline)
            .Select(match => (Name: match.Groups[1].Value.Replace("_", "").ToLowerInvariant(), Number: int.Parse(match.Groups[2].Value)))
            .Where(status => status.Number > 1);
        var ours = Enum.GetValues<Status>().Select(status => (Name: status.ToString().ToLowerInvariant(), Number: (int)status));
        Assert.Equal(pinned, ours);
    }

    [Fact]
    public void ExceptionsCarryStatusAndMessage()
    {
        Fails(Status.Io, "/nowhere/😀.gguf", () => Model.Open("/nowhere/😀.gguf"));
        Fails(Status.InvalidArgument, "", () => Model.Create("{"));
        Assert.Throws<ArgumentException>(() => Model.Create("a\0b"));
        Assert.Throws<ArgumentNullException>(() => Model.Open(null!));
        using var model = Open();
        using var session = model.CreateSession(Greedy());
        Fails(Status.UnknownOption, "max_tokens", () => model.CreateSession(new() { ["no such"] = 1 }));
        Fails(Status.InvalidArgument, "threads", () => model.CreateSession(new() { Threads = -7 }));
        Fails(Status.State, "", () => session.NextText());
        Fails(Status.State, "", () => session.Logits());
        Fails(Status.InvalidArgument, "999999", () => session.Feed([1, 999999]));
        Fails(Status.InvalidArgument, "layers", () => model.Info("nothing of the kind"));
        Fails(Status.Unsupported, "chat template", () => model.ApplyChat([ChatMessage.User("Hi")]));
        Fails(Status.InvalidArgument, "3", () => session.Feed((ReadOnlySpan<byte>)[97, 98, 99, 255]));
        Fails(Status.InvalidArgument, "3", () => session.Feed(new MemoryStream([97, 98, 99, 255])));
        Assert.ThrowsAny<ArgumentException>(() => session.Feed("half a pair: \uD83D"));
    }

    [Fact]
    public void UnicodeBeyondTheBasicPlane()
    {
        using var model = Open();
        foreach (string text in new[] { "😀", "𝔘𝔫𝔦𝔠𝔬𝔡𝔢 🏳️‍🌈 and 漢字", "zero \0 character", "e\u0301" })
        {
            int[] tokens = model.Tokenize(text, start: true);
            Assert.Equal(tokens.Length, model.CountTokens(text, start: true));
            Assert.Equal(text, model.Detokenize(tokens, start: true));
            Assert.Equal(Encoding.UTF8.GetBytes(text), model.DetokenizeUtf8(tokens, start: true));
        }
        string folder = Directory.CreateTempSubdirectory().FullName;
        string path = Path.Combine(folder, "😀 模型.gguf");
        model.Save(path);
        using (var again = Model.Open(path)) Assert.Equal(model.Info("fingerprint"), again.Info("fingerprint"));
        Model.Quantize(path, path, "q8_0");
        using (var small = Model.Open(path)) Assert.Contains("Q8_0", small.Info("tensor_types"));
        Assert.Equal(Status.InvalidArgument, Assert.Throws<InfiniException>(() => Model.Quantize(path, path, "q9")).Status);
        Directory.Delete(folder, true);
    }

    [Fact]
    public async Task EmptyAndHugeInputs()
    {
        using var model = Open();
        using var session = model.CreateSession(Greedy());
        session.Feed(ReadOnlySpan<int>.Empty);
        session.Feed(Stream.Null);
        Assert.Equal(0, session.Position);
        Assert.Empty(model.Tokenize(""));
        Assert.Equal("", model.Detokenize([]));
        string huge = string.Concat(Enumerable.Repeat("All work and no play makes Jack 😀 a dull boy.\n", 200000));
        Assert.True(huge == model.Detokenize(model.Tokenize(huge, start: true), start: true));
        byte[] novel = File.ReadAllBytes(Path.Combine(Source, "samples/texts/wuthering_heights.txt"))[..50000];
        session.Feed(new MemoryStream(novel));
        long position = session.Position;
        Assert.True(position > novel.Length / 8);
        session.Reset();
        await session.FeedAsync(new MemoryStream(novel));
        Assert.Equal(position, session.Position);
    }

    [Fact]
    public void Numbers()
    {
        using var model = Open();
        using var session = model.CreateSession(Greedy());
        int[] tokens = model.Tokenize("Once upon a time there was", start: true);
        float[] rows = session.FeedLogits(tokens);
        Assert.Equal((512, 64), (model.Vocabulary, model.Width));
        Assert.Equal(512 * tokens.Length, rows.Length);
        foreach (var (a, b) in rows[^512..].Zip(session.Logits())) Assert.Equal(a, b, 1e-6f);
        Assert.Equal(64, session.Embedding().Length);
        session.Reset();
        float[] nll = session.Score(tokens);
        Assert.True(float.IsNaN(nll[0]));
        session.Reset();
        var score = session.Score("Once upon a time there was");
        Assert.Equal(tokens.Length - 1, score.Scored);
        Assert.Equal(nll.Skip(1).Sum(x => (double)x), score.Nll, 1e-3);
        session.CloseSegment();
        Assert.Equal(0, session.SegmentPosition);
        Assert.True(session.MemoryTokens >= 0);
        Assert.Matches(@"^\d+\.\d+\.\d+$", InfiniLibrary.Version);
        Assert.Equal((1, 2), (model.Bos, model.Eos));
        Assert.True(model.IsEnd(2) && model.IsControl(1) && !model.IsEnd(300));
        if (InfiniLibrary.NextLog() is { } record) Assert.NotEmpty(record.Message);
    }

    [Fact]
    public void ForkGoesOnAlike()
    {
        using var model = Open();
        using var session = model.CreateSession(Greedy());
        session.Feed("The cat 😀");
        using var fork = session.Fork();
        Assert.Equal(session.Generate().ToList(), fork.Generate().ToList());
    }

    [Fact]
    public async Task SnapshotsGoOnAlike()
    {
        using var model = Open();
        using var session = model.CreateSession(Greedy());
        session.Feed("The cat 😀");
        string folder = Directory.CreateTempSubdirectory().FullName;
        string path = Path.Combine(folder, "😀.snapshot");
        session.Save(path, name: "cat 😀", note: "a note");
        byte[] snapshot = session.Snapshot(name: "cat 😀", note: "a note");
        var info = InfiniLibrary.InspectSnapshot(path, verify: true);
        Assert.Equal(("session", "cat 😀", "a note"), (info.Kind, info.Name, info.Note));
        Assert.Equal((model.Info("fingerprint"), session.Position), (info.Model.Fingerprint, info.View.Position));
        Assert.Equal(new FileInfo(path).Length, info.Size);
        Assert.Equal(info.Sections, InfiniLibrary.InspectSnapshot(snapshot, verify: true).Sections);
        Assert.All(info.Sections, section => Assert.NotNull(section.ContentChecksum));
        Assert.Null(InfiniLibrary.InspectSnapshot(snapshot).Sections[0].ContentChecksum);
        Assert.Contains("\"cat 😀\"", InfiniLibrary.InspectSnapshotJson(path));
        var text = session.Generate().ToList();
        using (var again = model.CreateSession(Greedy()))
        {
            again.Restore(path);
            Assert.Equal(text, again.Generate().ToList());
            await again.RestoreAsync(path);
            await again.SaveAsync(path);
            Assert.Equal(text, again.Generate().ToList());
            again.Restore(path);
            Assert.Equal(text, again.Generate().ToList());
            again.Restore(new MemoryStream(snapshot));
            Assert.Equal(text, again.Generate().ToList());
            long position = again.Position;
            byte[] damaged = [.. snapshot];
            damaged[damaged.Length / 2] ^= 1;
            Fails(Status.Checksum, "", () => again.Restore(damaged));
            Assert.Equal(position, again.Position);
            var memory = new MemoryStream();
            again.Snapshot(memory, memoryOnly: true);
            again.Restore(memory.ToArray());
            Fails(Status.State, "", () => again.NextText());
        }
        using var other = Model.Create("""{"layers": 1}""");
        using var stranger = other.CreateSession();
        Fails(Status.ModelMismatch, "", () => stranger.Restore(snapshot));
        Fails(Status.Io, "/nowhere/x", () => session.Save("/nowhere/x"));
        Directory.Delete(folder, true);
    }

    [Fact]
    public void Rewind()
    {
        using var model = Open();
        using var session = model.CreateSession(Greedy());
        session.Feed("The cat sat on");
        long position = session.Position;
        session.Feed(" the mat");
        session.Rewind(position);
        Assert.Equal(position, session.Position);
        Assert.True(session.RewindLimit <= position);
        Fails(Status.State, "", () => session.Rewind(position + 1000));
    }

    [Fact]
    public void TokensAndRuns()
    {
        using var model = Open();
        using var session = model.CreateSession(Greedy(5));
        session.Feed("Once");
        for (int run = 0; run < 2; ++run)
        {
            Assert.Equal(5, session.Tokens().Count());
            Assert.Equal("max_tokens", session.StopReason);
        }
        session.NextToken();
        session.StartGeneration();
        Assert.Equal("none", session.StopReason);
        session.SetOptions(new() { MaxTokens = 2 });
        Assert.Equal(2, session.Tokens().Count());
    }

    [Fact]
    public async Task TokensCancelAndSessionGoesOn()
    {
        using var model = Open();
        using var session = model.CreateSession(Greedy(-1));
        int[] tokens = Enumerable.Repeat(300, 2000000).ToArray();
        var heard = new Hearer();
        using var source = new CancellationTokenSource(300);
        var e = await Assert.ThrowsAsync<OperationCanceledException>(() => session.FeedAsync(tokens, heard, source.Token));
        Assert.Equal(Status.Cancelled, ((InfiniException)e.InnerException!).Status);
        Assert.Equal(("feed", (long)tokens.Length), (heard.Last.Stage, heard.Last.Total));
        Assert.InRange(heard.Last.Done, 1, tokens.Length - 1);
        Assert.InRange(session.Position, 1, tokens.Length - 1);
        Assert.ThrowsAny<OperationCanceledException>(() => Model.Open(Stories, cancellation: source.Token));
        int elements = 0;
        using var second = new CancellationTokenSource();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(async () =>
        {
            await foreach (string text in session.GenerateAsync(second.Token))
            {
                Assert.NotEmpty(text);
                if (++elements == 10) second.Cancel();
            }
        });
        Assert.Equal(10, elements);
        Assert.NotNull(session.NextText());
        session.Cancel(); // no call runs
        Assert.NotNull(session.NextText());
        using var opened = await Model.OpenAsync(Stories, progress: heard, cancellation: new CancellationTokenSource().Token);
        Assert.Equal("open", heard.Last.Stage);
    }

    [Fact]
    public void DisposingTwiceAndUseAfter()
    {
        var model = Open();
        var session = model.CreateSession(Greedy());
        model.Dispose();
        model.Dispose();
        Assert.Equal(Golden, Transcript(session)); // the session keeps its model
        session.Dispose();
        session.Dispose();
        Assert.Throws<ObjectDisposedException>(() => model.CreateSession());
        Assert.Throws<ObjectDisposedException>(() => model.Tokenize("a"));
        Assert.Throws<ObjectDisposedException>(() => session.Feed("a"));
        Assert.Throws<ObjectDisposedException>(() => session.NextText());
        Assert.Throws<ObjectDisposedException>(session.Cancel);
        Assert.Throws<ObjectDisposedException>(() => session.Fork());
        Assert.Throws<ObjectDisposedException>(() => session.Position);
    }

    [Fact]
    public async Task DisposeDuringGenerate()
    {
        using var model = Open();
        for (int i = 0; i < 50; ++i)
        {
            var session = model.CreateSession(Greedy(-1));
            session.Feed("Once upon a time");
            var ends = Enumerable.Range(0, 2).Select(_ => Task.Run(() => // the second waits for its turn
            {
                while (true) session.NextText();
            })).ToArray();
            Thread.Sleep(i % 5);
            session.Dispose();
            foreach (var end in ends)
            {
                var e = await Assert.ThrowsAnyAsync<Exception>(() => end.WaitAsync(TimeSpan.FromMinutes(1)));
                Assert.True(e is ObjectDisposedException || e is InfiniException { Status: Status.Cancelled }, e.ToString());
            }
        }
        var feeding = model.CreateSession(Greedy());
        var heard = new Hearer();
        var fed = feeding.FeedAsync(new int[5000000], heard);
        while (heard.Last.Done == 0) Thread.Sleep(1);
        feeding.Dispose();
        Assert.Equal(Status.Cancelled, (await Assert.ThrowsAsync<InfiniException>(() => fed)).Status);
    }

    private static void Collect()
    {
        GC.Collect();
        GC.WaitForPendingFinalizers();
    }

    [Fact]
    public void ThousandOpenDisposeCyclesDoNotGrow()
    {
        static void Cycle(int times)
        {
            for (int i = 0; i < times; ++i)
            {
                using var model = Open();
                using var session = model.CreateSession(Greedy());
                session.Feed("Once");
                session.NextText();
            }
            Collect();
        }
        Cycle(500);
        long before = Resident();
        Cycle(1000);
        Assert.InRange(Resident() - before, long.MinValue, 48 << 20);
    }

    [Fact]
    public void GarbageCollectorFreesWhatIsNotDisposed()
    {
        using var model = Open();
        long before = 0;
        for (int i = 0; i < 1200; ++i)
        {
            model.CreateSession(Greedy()).Feed("Once upon a time 😀"); // the last use is inside its own call
            if (i % 10 == 0) Collect();
            if (i == 200) before = Resident();
        }
        Assert.InRange(Resident() - before, long.MinValue, 512 << 20); // a session takes megabytes
    }

    [Fact]
    public async Task CollectingDuringCalls()
    {
        bool stop = false;
        var collector = Task.Run(() => { while (!Volatile.Read(ref stop)) Collect(); });
        using var model = Open();
        for (int i = 0; i < 20; ++i) Assert.Equal(Golden, Transcript(model.CreateSession(Greedy())));
        Volatile.Write(ref stop, true);
        await collector;
    }

    [Fact]
    public async Task EightThreadsWithTheirOwnSessions()
    {
        using var model = Open();
        await Task.WhenAll(Enumerable.Range(0, 8).Select(_ => Task.Factory.StartNew(() =>
        {
            using var session = model.CreateSession(Greedy());
            for (int k = 0; k < 5; ++k)
            {
                Assert.Equal(Golden, Transcript(session));
                session.Reset();
            }
        }, TaskCreationOptions.LongRunning)));
    }

    [Fact]
    public void OneSessionOfManyThreadsTakesTurns()
    {
        using var model = Open();
        using var session = model.CreateSession(Greedy(-1));
        session.Feed("Once");
        Parallel.For(0, 8, new ParallelOptions { MaxDegreeOfParallelism = 8 }, _ =>
        {
            for (int k = 0; k < 50; ++k) session.NextText();
        });
    }

    [Fact]
    public void MessagesOfManyThreadsDoNotMix()
    {
        Parallel.For(0, 16, new ParallelOptions { MaxDegreeOfParallelism = 16 }, i =>
        {
            for (int k = 0; k < 200; ++k) Fails(Status.Io, $"/nowhere/{i}-{k}", () => Model.Open($"/nowhere/{i}-{k}"));
        });
    }
}
