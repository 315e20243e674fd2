using System.Text;
using Infini;
using Xunit;
using static Support;

/// <summary>What batches promise.</summary>
public sealed class BatchTests
{
    private static readonly string[] Prompts = ["Once upon a time", "The cat 😀", "Tom and Lily went to"];

    private static InfiniSessionOptions Alike(long maxTokens)
    {
        var options = Greedy(maxTokens);
        options.Deterministic = true;
        return options;
    }

    private static List<Session> Sessions(Model model, long maxTokens) => Prompts.Select((prompt, i) =>
    {
        var session = model.CreateSession(Alike(maxTokens + i));
        session.Feed(prompt);
        return session;
    }).ToList();

    [Fact]
    public void SessionsWriteWhatTheyWouldWriteAlone()
    {
        using var model = Open();
        using var batch = model.CreateBatch();
        var alone = Sessions(model, 40).Select(session => string.Concat(session.Generate())).ToArray();
        var sessions = Sessions(model, 40);
        sessions.ForEach(batch.Add);
        Assert.Equal(sessions, batch.Sessions);
        var together = Prompts.Select(_ => new StringBuilder()).ToArray();
        for (int call = 0; call <= 40; ++call) // the first has 40 tokens, the second 41, the third 42
        {
            var tokens = batch.Next()!;
            for (int i = 0; i < 3; ++i)
            {
                Assert.Equal(call >= 40 + i, tokens[i] is null);
                together[i].Append(batch.Text(sessions[i]));
            }
        }
        var closed = sessions[0];
        closed.Dispose();
        Assert.Throws<ObjectDisposedException>(() => batch.Next());
        batch.Remove(closed);
        sessions.RemoveAt(0);
        Assert.Equal(sessions, batch.Sessions);
        Assert.Null(batch.Next()![0]);
        for (int i = 0; i < 2; ++i) together[i + 1].Append(batch.Text(sessions[i]));
        Assert.Equal(alone, together.Select(text => text.ToString()));
    }

    [Fact]
    public async Task AWriterWritesWhatTheyWouldWriteAlone()
    {
        using var model = Open();
        var alone = Sessions(model, 40).Select(session => string.Concat(session.Generate())).ToArray();
        var writer = new BatchWriter(model);
        var unfed = model.CreateSession();
        var refused = writer.Begin(unfed); // is at fault alone
        var sessions = Sessions(model, 40);
        var texts = await Task.WhenAll(sessions.Select(async (session, i) =>
        {
            await Task.Delay(5 * i); // they join at any time
            await using var run = writer.Begin(session);
            var text = new StringBuilder();
            while (true)
            {
                var (pieces, reason) = await run.TakeAsync(TimeSpan.FromMinutes(1));
                if (pieces is null)
                {
                    Assert.Equal("max_tokens", reason);
                    return text.ToString();
                }
                text.AppendJoin("", pieces);
            }
        }));
        Assert.Equal(alone, texts);
        Assert.Equal(Status.State, (await Assert.ThrowsAsync<InfiniException>(() => refused.TakeAsync())).Status);
        await refused.DisposeAsync();

        var endless = model.CreateSession(new() { MaxTokens = -1, IgnoreEnd = true, Temperature = 0 });
        endless.Feed("Once");
        using var cancelled = new CancellationTokenSource();
        await using (var run = writer.Begin(endless, cancelled.Token))
        {
            Assert.NotEmpty((await run.TakeAsync(TimeSpan.FromMinutes(1))).Pieces!);
            await cancelled.CancelAsync();
            string[]? pieces;
            string reason;
            do (pieces, reason) = await run.TakeAsync(TimeSpan.FromMinutes(1)); while (pieces is not null);
            Assert.Equal("cancelled", reason);
        }
        await writer.Begin(endless).DisposeAsync();
        long position = endless.Position; // the run has ended, and the session is free
        endless.Feed("and then");
        Assert.True(endless.Position > position);
        var disposed = writer.Begin(endless);
        endless.Dispose();
        await Assert.ThrowsAsync<ObjectDisposedException>(async () =>
        {
            while (await disposed.TakeAsync(TimeSpan.FromMinutes(1)) is not (null, _)) continue;
        });
        unfed.Dispose();
        sessions.ForEach(session => session.Dispose());
    }

    [Fact]
    public void Refusals()
    {
        var model = Open();
        var batch = model.CreateBatch();
        Assert.Null(batch.Next());
        var session = model.CreateSession();
        batch.Add(session);
        Assert.Equal(Status.InvalidArgument, Assert.Throws<InfiniException>(() => batch.Add(session)).Status);
        Assert.Equal(Status.State, Assert.Throws<InfiniException>(() => batch.Next()).Status); // it was fed nothing
        session.Feed("Once");
        Assert.ThrowsAny<OperationCanceledException>(() => batch.Next(new CancellationToken(true)));
        Assert.Single(batch.Next()!);
        using (var other = Model.Create("""{"layers": 1}"""))
        using (var stranger = other.CreateSession())
        {
            Assert.Equal(Status.InvalidArgument, Assert.Throws<InfiniException>(() => batch.Add(stranger)).Status);
            Assert.Throws<ArgumentException>(() => batch.Remove(stranger));
            Assert.Throws<ArgumentException>(() => batch.Text(stranger));
        }
        model.Dispose();
        Assert.NotNull(session.NextText()); // by itself
        batch.Dispose();
        batch.Dispose();
        Assert.Throws<ObjectDisposedException>(() => batch.Next());
        Assert.Throws<ObjectDisposedException>(() => batch.Add(session));
        Assert.Throws<ObjectDisposedException>(() => batch.Remove(session));
        Assert.NotNull(session.NextText());
        session.Dispose();
    }

    [Fact]
    public async Task DisposingDuringCalls()
    {
        using var model = Open();
        for (int round = 0; round < 20; ++round)
        {
            var sessions = Sessions(model, 1 << 20);
            Batch one = model.CreateBatch(), two = model.CreateBatch(); // of the same sessions, in another order
            for (int i = 0; i < 3; ++i)
            {
                one.Add(sessions[i]);
                two.Add(sessions[2 - i]);
            }
            var ends = new[] { one, two }.Select(batch => Task.Run(() =>
            {
                while (true) batch.Next();
            })).ToArray();
            var alone = Task.Run(() =>
            {
                for (int i = 0; i < 5; ++i) sessions[1].NextToken();
            });
            Thread.Sleep(round);
            await alone;
            if (round % 2 == 0) sessions[0].Dispose();
            one.Dispose();
            two.Dispose();
            foreach (var end in ends)
            {
                var e = await Assert.ThrowsAnyAsync<Exception>(() => end.WaitAsync(TimeSpan.FromMinutes(1)));
                Assert.True(e is ObjectDisposedException || e is InfiniException { Status: Status.Cancelled }, e.ToString());
            }
            sessions.ForEach(session => session.Dispose());
        }
    }

    [Fact]
    public void CollectedWithItsSessions()
    {
        using var model = Open();
        for (int i = 0; i < 200; ++i)
        {
            var batch = model.CreateBatch();
            for (int k = 0; k < 2; ++k)
            {
                var session = model.CreateSession();
                session.Feed("Once");
                batch.Add(session);
            }
            Assert.Equal(2, batch.Next()!.Length);
            if (i % 20 == 0)
            {
                GC.Collect();
                GC.WaitForPendingFinalizers();
            }
        }
    }
}
