using System.Diagnostics;
using System.Text;
using System.Text.Json;
using Infini;
using Xunit;
using static Support;

/// <summary>What calls promise: cancelling, progress, options, records, missing files.</summary>
public sealed class CallTests
{
    private static readonly string Novel = Path.Combine(Source, "samples/texts/wuthering_heights.txt");

    // Writes <s> for ever, which has no text: a pull for text never ends by itself.
    private static InfiniSessionOptions Silent => new()
    {
        Threads = 1, Temperature = 0, MaxTokens = -1, IgnoreEnd = true,
        LogitBias = new Dictionary<int, double> { [1] = 1e4, [2] = double.NegativeInfinity },
    };

    [Fact]
    public async Task PullsHearTheirTokenWhileNoTextComes()
    {
        using var model = Open();
        using var session = model.CreateSession(Silent);
        session.Feed("Once");
        var pulls = new Func<CancellationToken, Task>[]
        {
            token => Task.Run(() => session.NextText(token)),
            token => session.NextTextAsync(token),
            token => Task.Run(() => session.Generate(token).Count()),
            async token =>
            {
                await foreach (string text in session.GenerateAsync().WithCancellation(token)) Assert.Empty(text);
            },
            token => Task.Run(() => session.Tokens(token).Count()),
        };
        foreach (var pull in pulls)
        {
            long before = session.Position;
            using var source = new CancellationTokenSource();
            var pulled = pull(source.Token);
            while (session.Position < before + 20) await Task.Delay(1); // it runs
            var since = Stopwatch.StartNew();
            source.Cancel();
            var e = await Assert.ThrowsAnyAsync<OperationCanceledException>(() => pulled.WaitAsync(TimeSpan.FromSeconds(20)));
            Assert.Equal(source.Token, e.CancellationToken);
            Assert.InRange(since.ElapsedMilliseconds, 0, 10000);
            Assert.NotNull(session.NextToken()); // it goes on, and the cancel does not hit it
        }
    }

    [Fact]
    public async Task CallsHearTheirTokenWhileOthersHaveTheirTurn()
    {
        using var model = Open();
        using var session = model.CreateSession(Silent);
        session.Feed("Once");
        using var first = new CancellationTokenSource();
        var endless = session.NextTextAsync(first.Token);
        using var source = new CancellationTokenSource(100);
        var calls = new Func<Task>[]
        {
            () => Task.Run(() => session.NextText(source.Token)),
            () => Task.Run(() => session.NextToken(source.Token)),
            () => session.FeedAsync("there", null, source.Token),
            () => session.FeedAsync(new MemoryStream("there"u8.ToArray()), null, source.Token),
            () => Task.Run(() => session.Save("/nowhere", cancellation: source.Token)),
        };
        foreach (var call in calls)
        {
            var e = await Assert.ThrowsAnyAsync<OperationCanceledException>(() => call().WaitAsync(TimeSpan.FromSeconds(20)));
            Assert.Equal(source.Token, e.CancellationToken);
        }
        Assert.False(endless.IsCompleted);
        first.Cancel();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => endless);
    }

    [Fact]
    public async Task WaitingForATurnTakesNoThreadOfThePool()
    {
        using var model = Open();
        using var session = model.CreateSession(Silent);
        session.Feed("Once");
        using var source = new CancellationTokenSource();
        var waiting = Enumerable.Range(0, 200).Select(_ => session.NextTextAsync(source.Token)).ToArray();
        while (session.Position < 20) await Task.Delay(1);
        await Task.Run(() => { }).WaitAsync(TimeSpan.FromSeconds(5)); // 200 threads would be taken by then
        Assert.InRange(ThreadPool.ThreadCount, 0, 100);
        source.Cancel();
        foreach (var wait in waiting) await Assert.ThrowsAnyAsync<OperationCanceledException>(() => wait);
    }

    [Fact]
    public async Task DisposingEndsCallsThatBeginMeanwhile()
    {
        using var model = Open();
        for (int i = 0; i < 200; ++i)
        {
            var session = model.CreateSession(Silent);
            session.Feed("Once");
            using var ready = new ManualResetEventSlim();
            var call = Task.Factory.StartNew(() =>
            {
                ready.Wait();
                session.NextText();
            }, TaskCreationOptions.LongRunning);
            ready.Set();
            Thread.SpinWait(i * 50);
            session.Dispose();
            var e = await Assert.ThrowsAnyAsync<Exception>(() => call.WaitAsync(TimeSpan.FromSeconds(20)));
            Assert.True(e is ObjectDisposedException || e is InfiniException { Status: Status.Cancelled }, e.ToString());
        }
    }

    [Fact]
    public async Task PositionOfABusySessionDoesNotWait()
    {
        using var model = Open();
        using var session = model.CreateSession(Greedy());
        using var source = new CancellationTokenSource();
        var fed = session.FeedAsync(Enumerable.Repeat(300, 5000000).ToArray(), null, source.Token);
        long last = 0;
        for (int i = 0; i < 20; ++i)
        {
            var since = Stopwatch.StartNew();
            while (session.Position == last) await Task.Delay(1);
            Assert.True(session.Position > last);
            last = session.Position;
            Assert.InRange(since.ElapsedMilliseconds, 0, 10000);
        }
        Assert.False(fed.IsCompleted);
        source.Cancel();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => fed);
    }

    [Fact]
    public async Task ProgressCoversTheWholeText()
    {
        ThreadPool.SetMinThreads(64, 64); // reports come from a timer, and tests beside this one wait in threads of the pool
        using var model = Open();
        byte[] text = File.ReadAllBytes(Novel)[..300000];
        string folder = Directory.CreateTempSubdirectory().FullName, path = Path.Combine(folder, "novel.txt");
        File.WriteAllBytes(path, text);
        string characters = Encoding.UTF8.GetString(text);
        var feeds = new (long Total, Func<Session, IProgress<WorkProgress>, Task> Feed)[]
        {
            (text.Length, (session, progress) => session.FeedAsync(new MemoryStream(text), progress)),
            (text.Length, (session, progress) => Task.Run(() => session.Feed(new MemoryStream(text), progress))),
            (text.Length, (session, progress) => session.FeedFileAsync(path, progress)),
            (text.Length, (session, progress) => Task.Run(() => session.FeedFile(path, progress))),
            (0, (session, progress) => session.FeedAsync(new StringReader(characters), progress)),
            (0, (session, progress) => Task.Run(() => session.Feed(new StringReader(characters), progress))),
        };
        var positions = new List<long>();
        int most = 0; // reports of one text: ten a second
        foreach (var (total, feed) in feeds)
        {
            using var session = model.CreateSession(Greedy());
            var heard = new Hearer();
            await feed(session, heard);
            Assert.Equal(new WorkProgress("feed", text.Length, total), heard.Last);
            Assert.Equal(total == 0 ? null : 1.0, heard.Last.Fraction);
            Assert.False(heard.Backwards);
            most = Math.Max(most, heard.Heard);
            positions.Add(session.Position);
        }
        Assert.InRange(most, 3, int.MaxValue);
        Assert.Single(positions.Distinct());
        Directory.Delete(folder, true);
    }

    [Fact]
    public async Task WhatAProgressThrowsComesOutOfTheCall()
    {
        using var model = Open();
        using var session = model.CreateSession(Greedy());
        var tokens = new int[5000000];
        var e = await Assert.ThrowsAsync<DivideByZeroException>(() => session.FeedAsync(tokens, new Thrower()));
        Assert.Equal("the receiver's", e.Message);
        Assert.InRange(session.Position, 1, tokens.Length - 1);
        session.Feed("and on it goes");
    }

    [Fact]
    public async Task AProgressMayUseTheSession()
    {
        using var model = Open();
        using var session = model.CreateSession(Greedy());
        var user = new User(session);
        await session.FeedAsync(Enumerable.Repeat(300, 50000).ToArray(), user).WaitAsync(TimeSpan.FromMinutes(1));
        await user.Used.Task.WaitAsync(TimeSpan.FromMinutes(1));
    }

    private sealed class User(Session session) : IProgress<WorkProgress>
    {
        public readonly TaskCompletionSource Used = new();

        public void Report(WorkProgress value)
        {
            _ = session.Info(); // waits for its turn
            Used.TrySetResult();
        }
    }

    private sealed class Thrower : IProgress<WorkProgress>
    {
        public void Report(WorkProgress value) => throw new DivideByZeroException("the receiver's");
    }

    [Fact]
    public void EveryOptionIsAProperty()
    {
        foreach (var type in new[] { typeof(InfiniModelOptions), typeof(InfiniSessionOptions) })
        {
            var properties = type.GetProperties()
                .Where(property => property.CanWrite && property.GetIndexParameters().Length == 0)
                .Select(property => JsonNamingPolicy.SnakeCaseLower.ConvertName(property.Name));
            string other = type == typeof(InfiniModelOptions) ? "session generation text" : "model";
            var options = InfiniLibrary.DescribeOptions().Where(option => !other.Split(' ').Contains(option.Scope));
            Assert.Equal(options.Select(option => option.Name).Order(), properties.Order());
        }
    }

    [Fact]
    public void OptionsOfTheOtherAreRefused()
    {
        Fails(Status.InvalidArgument, "session", () => Model.Open(Stories, new() { ["max_tokens"] = 3 }));
        using var model = Open();
        Fails(Status.InvalidArgument, "model", () => model.CreateSession(new() { ["compute"] = "f32" }));
        using var session = model.CreateSession();
        Fails(Status.InvalidArgument, "model", () => session.SetOptions(new() { ["memory"] = "open" }));
    }

    [Fact]
    public void InspectingHearsItsTokenAndTells()
    {
        using var model = Open();
        using var session = model.CreateSession();
        session.Feed("Once");
        string path = Path.GetTempFileName();
        session.Save(path);
        var heard = new Hearer();
        InfiniLibrary.InspectSnapshot(path, verify: true, heard);
        Assert.Equal(("inspect", 1.0), (heard.Last.Stage, heard.Last.Fraction));
        var e = Assert.ThrowsAny<OperationCanceledException>(() => InfiniLibrary.InspectSnapshot(path, true, null, new CancellationToken(true)));
        Assert.True(e.CancellationToken.IsCancellationRequested);
        File.Delete(path);
    }

    [Fact]
    public void WhatIsMadeAndKeptHearsItsTokenAndTells()
    {
        using var model = Model.Create("{\"layers\": 1}");
        using var session = model.CreateSession();
        session.Feed(new[] { 1, 2, 3 });
        var heard = new Hearer();
        byte[] snapshot = session.Snapshot(progress: heard);
        Assert.Equal(("save", 1.0), (heard.Last.Stage, heard.Last.Fraction));
        string path = Path.GetTempFileName();
        using var trainer = model.CreateTrainer("{\"data\": {\"type\": \"random\"}}", null, heard = new Hearer());
        Assert.Equal(("create", 1.0), (heard.Last.Stage, heard.Last.Fraction));
        var late = new CancellationToken(true);
        foreach (var call in new Action[]
        {
            () => session.Snapshot(cancellation: late), () => session.Restore(snapshot, late), () => session.Merge(snapshot, 1, late),
            () => Model.Create("{}", null, null, late), () => model.CreateTrainer("{\"data\": {\"type\": \"random\"}}", null, null, late),
            () => trainer.Save(path, null, late), () => trainer.Restore(path, late), () => trainer.Write(path, "f32", null, late),
        }) Assert.ThrowsAny<OperationCanceledException>(call);
        Assert.Equal(0, new FileInfo(path).Length); // as it was
        trainer.Write(path, "f32", heard = new Hearer());
        Assert.Equal(("save", 1.0), (heard.Last.Stage, heard.Last.Fraction));
        File.Delete(path);
    }

    [Fact]
    public void OptionsAreWhatTheyShouldBe()
    {
        var options = new InfiniSessionOptions
        {
            MaxTokens = 7, Temperature = 0.5, Deterministic = true, Stop = ["a\nb", "c\\d"], ["ignore_end"] = true, ["top_k"] = 3,
            LogitBias = new Dictionary<int, double> { [300] = -1.5 },
        };
        Assert.Equal((7L, 0.5, true, true, 3L), (options.MaxTokens, options.Temperature, options.Deterministic, options.IgnoreEnd, options.TopK));
        Assert.Equal(["a\nb", "c\\d"], options.Stop);
        options.TopK = null;
        Assert.Null(options["top_k"]);
        Assert.Throws<ArgumentException>(() => options["seed"] = new object());
        using var model = Open();
        using var session = model.CreateSession(options);
        var set = session.Info().Options;
        Assert.Equal((7, 0.5, 1), (set["max_tokens"].GetInt32(), set["temperature"].GetDouble(), set["ignore_end"].GetInt32()));
        Assert.Equal(("a\\nb\nc\\\\d", "300:-1.5"), (set["stop"].GetString(), set["logit_bias"].GetString()));
        Assert.False(set.ContainsKey("top_k"));
    }

    [Fact]
    public void StopStringsEndARun()
    {
        using var model = Open();
        using var session = model.CreateSession(Greedy());
        session.Feed("Once upon a time");
        string whole = string.Concat(session.Generate());
        session.Reset();
        session.SetOptions(new() { Stop = ["no\nsuch", whole[5..9]] });
        session.Feed("Once upon a time");
        Assert.Equal(whole[..whole.IndexOf(whole[5..9], StringComparison.Ordinal)], string.Concat(session.Generate()));
        Assert.Equal("stop_string", session.StopReason);
    }

    [Fact]
    public void RecordsSayWhatTheJsonSays()
    {
        using var model = Open();
        using var session = model.CreateSession(new() { Checkpoints = 2 });
        session.Feed(File.ReadAllText(Novel)[..2000]);
        Same(model.InfoJson(), model.Info());
        Same(session.InfoJson(), session.Info());
        Assert.Equal(("stories260K", 512, 64, false), (model.Info().Name, model.Info().Vocabulary, model.Info().Width, model.Info().TrainedMemory));
        Assert.Equal(session.Position, session.Info().Position);
        Assert.NotEmpty(session.Info().Boundaries);
        var footprint = model.Footprint(1 << 20);
        Assert.Equal((1 << 20, 5), (footprint.Tokens, footprint.Methods.Count));
        Assert.Equal("kv_cache", footprint.Methods[0].Method);
        Assert.True(footprint.Methods[0].Bytes > 0 && footprint.SessionBytes >= footprint.WindowBytes);
        Assert.Equal(5, InfiniLibrary.PaperFootprint(65000).Methods.Count);
        var option = InfiniLibrary.DescribeOptions().Single(option => option.Name == "temperature");
        Assert.Equal(("double", 0.0, 100.0), (option.Type, option.Least, option.Greatest));

        // Every number and name of the library is in the record.
        static void Same<T>(string json, T record)
        {
            using var library = JsonDocument.Parse(json);
            var ours = JsonSerializer.SerializeToElement(record, new JsonSerializerOptions
            {
                PropertyNamingPolicy = JsonNamingPolicy.SnakeCaseLower,
            });
            Assert.Equal(library.RootElement.EnumerateObject().Select(x => x.Name).Order(), ours.EnumerateObject().Select(x => x.Name).Order());
            foreach (var fact in library.RootElement.EnumerateObject())
            {
                var value = ours.GetProperty(fact.Name);
                if (value.ValueKind == JsonValueKind.Number) Assert.Equal(fact.Value.GetDouble(), value.GetDouble());
                else Assert.Equal(fact.Value.ToString(), value.ToString());
            }
        }
    }

    [Fact]
    public void MissingFilesAreFilesThatAreNotFound()
    {
        using var model = Open();
        using var session = model.CreateSession();
        string folder = Directory.CreateTempSubdirectory().FullName, missing = Path.Combine(folder, "missing");
        foreach (var call in new Action[] { () => Model.Open(missing), () => session.Restore(missing), () => InfiniLibrary.InspectSnapshot(missing) })
            Assert.Equal(missing, Assert.IsType<FileNotFoundException>(Failure(call).InnerException).FileName);
        foreach (var call in new Action[] { () => model.Save(missing + "/x"), () => session.Save(missing + "/x") })
            Assert.IsType<DirectoryNotFoundException>(Failure(call).InnerException);
        Assert.Throws<FileNotFoundException>(() => session.FeedFile(missing));
        Assert.Null(Failure(() => Model.Create("{")).InnerException);
        Directory.Delete(folder);

        static InfiniException Failure(Action call) => Assert.Throws<InfiniException>(call);
    }
}
