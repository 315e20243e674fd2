using Infini;

/// <summary>What computes: requests have their turn, and limits.</summary>
internal sealed class Work(Model model, Settings settings)
{
    private const int MaxPiece = 256; // tokens of a prompt that are read before others have their turn

    private static readonly TimeSpan Heartbeat = TimeSpan.FromSeconds(5); // of comments while no text comes

    private readonly TimeSpan maxTime = settings.Seconds("INFINI_MAX_SECONDS", 3600);
    private readonly long maxPrompt = settings.Number("INFINI_MAX_PROMPT", 1 << 17); // tokens that a request may have read
    private readonly Turns reading = new(1, null); // who reads a piece of a prompt, with all processors
    private readonly BatchWriter writer = new(model);

    /// <summary>Requests that compute, but for feeds.</summary>
    internal Turns Working { get; } = new(settings.Number("INFINI_BATCH", 16), settings.Number("INFINI_QUEUE", 64));

    /// <summary>Feeds that have text; one reads a piece of it, beside these.</summary>
    internal Turns Feeding { get; } = new(1, settings.Number("INFINI_QUEUE", 64));

    /// <summary>Whether nobody else may wait.</summary>
    internal bool Full => Working.Full || Feeding.Full;

    /// <summary>When to try again, in seconds: about when who waits now has had its turn.</summary>
    internal long RetryAfter => Working.RetryAfter + Feeding.Counts.Waiting;

    internal Operators? Operators { get; set; }

    /// <summary>Does what computes when its turn has come, and for so long as a request may take.</summary>
    internal async Task<T> Do<T>(HttpContext context, CancellationToken cancelled, Func<CancellationToken, Task<T>> work)
    {
        var account = Account.Of(context);
        await Working.Take(account.Client, cancelled);
        try
        {
            using var late = new CancellationTokenSource();
            if (maxTime > TimeSpan.Zero) late.CancelAfter(maxTime);
            account.Late = late.Token;
            using var either = CancellationTokenSource.CreateLinkedTokenSource(cancelled, late.Token);
            return await work(either.Token);
        }
        finally
        {
            Working.Leave();
        }
    }

    /// <summary>Reads a plain text into a session.</summary>
    internal Task ReadText(HttpContext context, Session session, string text, CancellationToken cancelled) =>
        Read(context, session, session.TextTokens(text), cancelled);

    /// <summary>Reads messages into a session, and begins the reply.</summary>
    internal async Task ReadChat(HttpContext context, Session session, string messages, CancellationToken cancelled)
    {
        await Read(context, session, session.ChatTokensJson(messages), cancelled);
        session.StartGeneration();
    }

    // Reads tokens in pieces, between which others have their turn.
    private async Task Read(HttpContext context, Session session, int[] tokens, CancellationToken cancelled)
    {
        if (tokens.Length > maxPrompt)
            throw new Refusal(400, "CONTEXT_LENGTH_EXCEEDED", $"the request has {tokens.Length} tokens to read, but may have {maxPrompt}");
        var account = Account.Of(context);
        long before = session.Position;
        for (int begin = 0; begin < tokens.Length; begin += MaxPiece)
        {
            await reading.Again(account.Client, cancelled);
            try
            {
                await session.FeedAsync(tokens.AsMemory(begin, Math.Min(MaxPiece, tokens.Length - begin)), null, cancelled);
            }
            finally
            {
                reading.Leave();
                account.Read += PositionOf(session, before) - before;
                before = PositionOf(session, before);
            }
        }
    }

    /// <summary>Lets the model write, piece by piece, and returns why it ended: "cancelled" too, when the client goes away, and
    /// "max_time"; the session may go on. With beats, comments are sent while no text comes.</summary>
    internal async Task<string> Run(Events events, HttpContext context, Session session, Func<string, Task> take, bool beats,
                                    CancellationToken cancelled)
    {
        var account = Account.Of(context);
        using var gone = CancellationTokenSource.CreateLinkedTokenSource(cancelled);
        long before = session.Position;
        var run = writer.Begin(session, gone.Token);
        try
        {
            while (true)
            {
                var (pieces, reason) = await run.TakeAsync(Heartbeat);
                if (pieces is null) return reason == "cancelled" && account.Late.IsCancellationRequested ? "max_time" : reason;
                string text = string.Concat(pieces);
                if (text != "") Operators!.FirstToken(account);
                try
                {
                    if (text != "") await take(text);
                    else if (beats) await events.Write(":\n\n");
                }
                catch (Exception e) when (e is OperationCanceledException or IOException)
                {
                    await gone.CancelAsync(); // nobody listens
                }
            }
        }
        catch (Exception e) when (Refusal.IsCancel(e) || cancelled.IsCancellationRequested)
        {
            return "cancelled"; // it was deleted
        }
        finally
        {
            account.Written += PositionOf(session, before) - before;
        }
    }

    internal static long PositionOf(Session session, long otherwise)
    {
        try
        {
            return session.Position;
        }
        catch (ObjectDisposedException)
        {
            return otherwise;
        }
    }
}
