using System.Text;
using Infini;
using Xunit;
using static Support;

/// <summary>What trainers promise. INFINI_TRAINING is what the C program training.c printed on this machine.</summary>
public sealed class TrainerTests : IDisposable
{
    private const string Random = """{"type": "random"}""";

    private readonly string folder = Directory.CreateTempSubdirectory().FullName;

    public void Dispose() => Directory.Delete(folder, true);

    private static Model Tiny(int layers = 2) => Model.Create($$"""
        {"layers": {{layers}}, "width": 32, "heads": 2, "kv_heads": 2, "hidden": 64, "segment": 16,
         "tokenizer": "{{Stories}}"}
        """, Exact);

    private static string Text(string file) => $$"""{"type": "text", "files": ["{{file}}"]}""";

    private static string Description(string part) => $$"""
        {"training": {"train": "{{part}}", "tokens": 512, "segments": 4, "rate": 0.01, "warmup": 0},
         "data": {{Text(Source + "/tests/bindings/golden.txt")}}}
        """;

    private static Trainer Trainer(Model model, string part = "all") => model.CreateTrainer(Description(part), Exact);

    /// <summary>The JSON of a report without the times at its end.</summary>
    private static string Timeless(string json) => json.Split(",\"seconds\"")[0];

    private static string Tell(Model model)
    {
        using var session = model.CreateSession(Greedy());
        session.Feed("Once upon a time");
        return string.Concat(session.Generate());
    }

    [Fact]
    public void EveryLanguageTrainsAlike()
    {
        var text = new StringBuilder();
        string path = Path.Combine(folder, "trained.gguf");
        using (var model = Tiny())
        using (var trainer = Trainer(model))
        {
            trainer.Step();
            text.Append(Timeless(trainer.ReportJson())).Append('\n');
            trainer.Run(79);
            text.Append(Timeless(trainer.ReportJson())).Append('\n');
            text.Append(trainer.Evaluate(Random, 2, 3).Json).Append('\n');
            trainer.Write(path, "f32");
        }
        using var trained = Model.Open(path, Exact);
        text.Append(trained.Info("fingerprint")).Append('\n').Append(Tell(trained)).Append('\n');
        Assert.Equal(File.ReadAllText(Environment.GetEnvironmentVariable("INFINI_TRAINING")!), text.ToString());
    }

    [Fact]
    public async Task LearnsByHeart()
    {
        using var model = Tiny();
        using var trainer = Trainer(model);
        Assert.Equal("{}", trainer.ReportJson());
        Assert.Equal(default, trainer.Report());
        var first = trainer.Step();
        Assert.Equal((1, 512, 4, 16), (first.Step, first.Tokens, first.Segments, first.Segment));
        Assert.Equal((0, null, null), (first.AnswersAcross, first.RecallAcross, first.RecallInside));
        Assert.True(first.GradientNorm > 0 && first.Seconds > 0 && first.TokensPerSecond > 0, first.ToString());
        Assert.Equal(1, first.RateFactor);
        var heard = new Hearer();
        var last = await trainer.RunAsync(99, heard);
        Assert.Equal(last, trainer.Report());
        Assert.Equal(new WorkProgress("train", 99, 99), heard.Last);
        Assert.Contains("\"steps\":100,\"tokens\":51200,", trainer.InfoJson());
        Assert.True(first.Loss > 5 && last.Loss < 0.5, $"{first} {last}");

        var evaluation = await trainer.EvaluateAsync(Text(Source + "/tests/bindings/golden.txt"), 3, progress: heard);
        Assert.Equal(new WorkProgress("evaluate", 3, 3), heard.Last);
        Assert.True(evaluation.Loss < 0.5 && evaluation.RecallAcross is null, evaluation.ToString());
        Assert.Equal((3, 4), (evaluation.Sequences, evaluation.Segments));
        Assert.Equal(2 * (3 * 16 - 1), trainer.Evaluate(Random, 2, 3).Predictions);

        foreach (string type in new[] { "f32", "f16", "bf16" })
        {
            string path = Path.Combine(folder, $"😀 {type}.gguf");
            trainer.Write(path, type);
            using var trained = Model.Open(path, Exact);
            Assert.StartsWith("\n, there was a little girl named Lily.", Tell(trained));
        }
        Assert.DoesNotContain("Lily", Tell(model)); // it stays as it was
    }

    [Fact]
    public async Task CancelLeavesItUsable()
    {
        using var model = Tiny();
        using var trainer = Trainer(model);
        var heard = new Hearer();
        using var source = new CancellationTokenSource();
        var running = trainer.RunAsync(1 << 30, heard, source.Token);
        while (heard.Last.Done < 3) Thread.Sleep(1);
        Assert.Equal(("train", 1L << 30), (heard.Last.Stage, heard.Last.Total));
        source.Cancel();
        var e = await Assert.ThrowsAsync<OperationCanceledException>(() => running);
        Assert.Equal(Status.Cancelled, ((InfiniException)e.InnerException!).Status);
        long done = trainer.Report().Step;
        Assert.True(done >= 3);
        Assert.Equal(done + 1, trainer.Step().Step);
        Assert.Equal(done + 3, (await trainer.RunAsync(2)).Step);
        Assert.ThrowsAny<OperationCanceledException>(() => trainer.Step(source.Token));
        Assert.ThrowsAny<OperationCanceledException>(() => trainer.Evaluate(Random, 1, cancellation: source.Token));
        Assert.Equal(done + 3, trainer.Report().Step);
        using var timeout = new CancellationTokenSource(20);
        await Assert.ThrowsAnyAsync<OperationCanceledException>(
            () => trainer.EvaluateAsync(Random, 1 << 30, cancellation: timeout.Token));
        Assert.Equal(done + 4, trainer.Step().Step);
    }

    [Fact]
    public void RestoredItGoesOnWithTheSameBits()
    {
        string path = Path.Combine(folder, "😀.checkpoint"), other = Path.Combine(folder, "damaged");
        using var model = Tiny();
        using Trainer trainer = Trainer(model), twin = Trainer(model);
        trainer.Run(5);
        trainer.Save(path);
        twin.Restore(path);
        Assert.Contains("\"steps\":5,", twin.InfoJson());
        Assert.Equal(trainer.Run(5).Loss, twin.Run(5).Loss);
        Assert.Equal(Timeless(trainer.ReportJson()), Timeless(twin.ReportJson()));

        byte[] damaged = File.ReadAllBytes(path);
        damaged[damaged.Length / 2] ^= 1;
        File.WriteAllBytes(other, damaged);
        Fails(Status.Checksum, "damaged", () => twin.Restore(other));
        Fails(Status.Io, "/nowhere/x", () => twin.Restore("/nowhere/x"));
        Fails(Status.Io, "/nowhere/x", () => twin.Save("/nowhere/x"));
        Assert.Equal(trainer.Step().Loss, twin.Step().Loss); // nothing has changed
        using var stranger = Tiny(1);
        using Trainer ofStranger = Trainer(stranger), lora = Trainer(model, "lora");
        Fails(Status.ModelMismatch, "", () => ofStranger.Restore(path));
        Fails(Status.ModelMismatch, "", () => lora.Restore(path));
    }

    [Fact]
    public void Adapters()
    {
        string path = Path.Combine(folder, "adapter.gguf"), merged = Path.Combine(folder, "merged.gguf");
        using var model = Tiny();
        using Trainer lora = Trainer(model, "lora"), all = Trainer(model);
        double? first = lora.Step().Loss;
        Assert.True(lora.Run(20).Loss < first);
        lora.WriteAdapter(path);
        lora.Write(merged, "f32");
        Assert.InRange(new FileInfo(path).Length, 1000, new FileInfo(merged).Length - 1);
        Model.Open(merged).Dispose();
        Fails(Status.State, "LoRA", () => all.WriteAdapter(path));
    }

    [Fact]
    public void FindsHeadsAndFitsOthers()
    {
        const string recall = """{"type": "recall", "density": [40, 40]}""";
        using var model = Model.Create($$"""
            {"layers": 2, "width": 32, "heads": 4, "kv_heads": 2, "hidden": 32, "segment": 32,
             "tokenizer": "{{Source}}/samples/models/words2048.gguf"}
            """, Exact);
        using Trainer trainer = model.CreateTrainer(
            """{"training": {"train": "retrieval", "supervised": [[1, 0, 0], [1, 1, 0]], "tokens": 512, "segments": 8}, "data": """
            + recall + "}", Exact), all = Trainer(model);
        var heard = new Hearer();
        string found = trainer.FindHeads(recall, 2, progress: heard);
        Assert.StartsWith("{\"heads\":[{\"layer\":", found);
        Assert.Equal(new WorkProgress("find heads", 2, 2), heard.Last);
        trainer.FitHeads(8, heard);
        Assert.Equal("fit heads", heard.Last.Stage);
        trainer.Step();
        Fails(Status.State, "step", () => trainer.FitHeads(8));
        Fails(Status.InvalidArgument, "nats", () => trainer.FitHeads(0));
        Fails(Status.InvalidArgument, "[layer, head, offset]", () => all.FitHeads(8));
        Fails(Status.InvalidArgument, "answer", () => trainer.FindHeads(Random, 1, 8));
    }

    [Fact]
    public void ErrorsNameWhatIsWrong()
    {
        using var model = Tiny();
        using var noTokenizer = Model.Create("""{"layers": 1}""");
        Assert.StartsWith("[{\"name\":\"training\"", global::Infini.Trainer.SettingsJson());
        Assert.Contains("\"name\":\"layers\"", Model.CreationSettingsJson());
        Assert.Contains("\"name\":\"pieces\"", Model.KeepSettingsJson());
        Fails(Status.State, "keeps no sentences", () => model.FitKeep("{\"pieces\": []}", "unused"));
        Fails(Status.InvalidArgument, "JSON", () => model.CreateTrainer("{"));
        Fails(Status.InvalidArgument, "data", () => model.CreateTrainer("{}"));
        Fails(Status.InvalidArgument, "rate",
              () => model.CreateTrainer("""{"training": {"rate": "fast"}, "data": {"type": "random"}}"""));
        Fails(Status.InvalidArgument, "date", () => model.CreateTrainer("""{"data": {"type": "random"}, "date": 1}"""));
        Fails(Status.Io, "/nowhere/😀", () => model.CreateTrainer($$"""{"data": {{Text("/nowhere/😀")}}}"""));
        Fails(Status.State, "tokenizer", () => noTokenizer.CreateTrainer(Description("all")));
        Fails(Status.UnknownOption, "threads", () => model.CreateTrainer(Description("all"), new() { ["no such"] = 1 }));
        Assert.Throws<ArgumentException>(() => model.CreateTrainer("a\0b"));
        Assert.Throws<ArgumentNullException>(() => model.CreateTrainer(null!));
        using var trainer = Trainer(model);
        Fails(Status.InvalidArgument, "steps", () => trainer.Run(-1));
        Fails(Status.InvalidArgument, "sequences", () => trainer.Evaluate(Random, 0));
        Fails(Status.InvalidArgument, "share", () => trainer.Evaluate("""{"type": "random", "share": 2}""", 1));
        Fails(Status.InvalidArgument, "q4", () => trainer.Write("unused", "q4"));
        Fails(Status.Io, "/nowhere/x", () => trainer.Write("/nowhere/x", "f16"));
        Assert.Equal(0, trainer.Run(0).Step);
    }

    [Fact]
    public async Task DisposingTwiceAndUseAfter()
    {
        var model = Tiny();
        var trainer = Trainer(model);
        model.Dispose();
        Assert.Equal(1, trainer.Step().Step); // it keeps its model
        trainer.Dispose();
        trainer.Dispose();
        Assert.Throws<ObjectDisposedException>(() => trainer.Step());
        Assert.Throws<ObjectDisposedException>(() => trainer.Report());
        Assert.Throws<ObjectDisposedException>(() => trainer.InfoJson());
        Assert.Throws<ObjectDisposedException>(() => trainer.Evaluate(Random, 1));
        Assert.Throws<ObjectDisposedException>(() => trainer.Save("unused"));
        await Assert.ThrowsAsync<ObjectDisposedException>(() => trainer.RunAsync(1, new Hearer()));
        Assert.Throws<ObjectDisposedException>(() => model.CreateTrainer(Description("all")));
    }

    [Fact]
    public async Task DisposeDuringCalls()
    {
        using var model = Tiny();
        for (int round = 0; round < 20; ++round)
        {
            var trainer = Trainer(model);
            Task[] ends = [trainer.RunAsync(1 << 30), trainer.EvaluateAsync(Random, 1 << 30, 1)]; // one waits for its turn
            Thread.Sleep(round % 7);
            trainer.Dispose();
            foreach (var end in ends)
            {
                var e = await Assert.ThrowsAnyAsync<Exception>(() => end.WaitAsync(TimeSpan.FromMinutes(1)));
                Assert.True(e is ObjectDisposedException || e is InfiniException { Status: Status.Cancelled }, e.ToString());
            }
        }
    }

    [Fact]
    public void CreateDisposeCyclesDoNotGrow()
    {
        using var model = Tiny();
        const string Small = $$"""{"training": {"tokens": 64, "segments": 4}, "data": {{Random}}}""";
        long before = 0;
        for (int i = 0; i < 250; ++i)
        {
            if (i == 50) before = Resident();
            using var trainer = model.CreateTrainer(Small, Exact);
            trainer.Step();
        }
        Assert.InRange(Resident() - before, long.MinValue, 48 << 20); // a trainer takes two
        for (int i = 0; i < 300; ++i)
        {
            model.CreateTrainer(Small, Exact).Step(); // the last use is inside its own call
            if (i % 10 != 0) continue;
            GC.Collect();
            GC.WaitForPendingFinalizers();
        }
        Assert.InRange(Resident() - before, long.MinValue, 256 << 20);
    }
}
