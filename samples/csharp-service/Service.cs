using System.Security.Cryptography;
using System.Text;
using Microsoft.AspNetCore.Http.Features;
using Infini;

/// <summary>Answers the calls that samples/SERVICES.md describes, over sessions of one model.</summary>
internal class Service : IDisposable
{
    private const long MaxOptions = 1 << 16, MaxMessages = 1 << 20; // bytes of a body
    private const int MaxNote = 1 << 10; // bytes

    private readonly Model model;
    private readonly Settings settings;
    private readonly Work work;
    private readonly Operators operators;
    private readonly Timer sampling;
    private readonly Timer? expiry;
    private readonly long maxBody;
    private readonly TimeSpan headerTimeout, bodyTimeout, grace;
    private readonly CancellationTokenSource over = new();

    /// <param name="model">Whose sessions they are.</param>
    /// <param name="settings">Those of samples/SERVICES.md.</param>
    /// <param name="store">Where memories are kept; null: nowhere.</param>
    /// <param name="mostBody">Bytes of a body where INFINI_MAX_BODY does not say.</param>
    /// <param name="grace">How long requests that have begun go on when the process is told to end.</param>
    internal Service(Model model, Settings settings, IMemoryStore? store, long mostBody = 1L << 30,
                     TimeSpan grace = default)
    {
        (this.model, this.settings, this.grace) = (model, settings, grace);
        maxBody = settings.Number("INFINI_MAX_BODY", mostBody);
        headerTimeout = settings.Seconds("INFINI_HEADER_TIMEOUT", 10);
        bodyTimeout = settings.Seconds("INFINI_BODY_TIMEOUT", 30);
        Sessions = new Sessions(model, settings.Number("INFINI_MAX_SESSIONS", 100), settings.Number("INFINI_MAX_MEMORIES", 10000), store);
        work = new Work(model, settings);
        operators = work.Operators = new Operators(settings, Sessions, work);
        sampling = operators.Sample();
        Sessions.LogError = operators.LogError;
        expiry = Sessions.Expire(settings.Seconds("INFINI_IDLE_SECONDS", 0));
    }

    /// <summary>Opens a model, and says where it lacks what a service is for.</summary>
    internal static Model Open(string path)
    {
        var model = Model.Open(path);
        if (model.Info() is { TrainedMemory: false, Window: var window })
        {
            Console.Error.WriteLine($"{path} has no trained memory: it sees only its window of {window} tokens. "
                + $"`infini train {path} --adapt` teaches it one.");
        }
        return model;
    }

    internal Sessions Sessions { get; }

    /// <summary>Ends when requests are taken no more.</summary>
    internal CancellationToken Ending { get; private set; }

    /// <summary>Ends those that have begun, when the service does.</summary>
    internal CancellationToken Over => over.Token;

    public void Dispose()
    {
        sampling.Dispose();
        expiry?.Dispose();
        Sessions.Dispose();
        GC.SuppressFinalize(this);
    }

    /// <summary>Serves at an address, until the process is told to end: then requests have so long to be answered, and those
    /// whose memory is being written longer.</summary>
    internal async Task Run(WebApplicationBuilder builder, string address, TimeSpan patience)
    {
        builder.Services.Configure<HostOptions>(options => options.ShutdownTimeout = Timeout.InfiniteTimeSpan); // see below
        builder.Logging.SetMinimumLevel(LogLevel.Error);
        builder.WebHost.UseSockets(options => options.MaxWriteBufferSize = 1); // what was written was sent, whatever comes then
        builder.WebHost.ConfigureKestrel(options =>
        {
            options.Limits.MaxRequestBodySize = maxBody;
            options.Limits.RequestHeadersTimeout = options.Limits.KeepAliveTimeout = headerTimeout;
            options.Limits.MaxConcurrentConnections = settings.Number("INFINI_MAX_CONNECTIONS", 1000);
            options.Limits.MaxRequestHeadersTotalSize = 1 << 14;
            options.Limits.MinRequestBodyDataRate = null; // slow is not silent, which Body watches
            options.ConfigureEndpointDefaults(listen => listen.Use(next => connection => Connection.Serve(connection, next)));
        });
        var app = builder.Build();
        app.Urls.Add("http://" + address);
        Ending = app.Lifetime.ApplicationStopping;
        using var end = Ending.Register(() => over.CancelAfter(grace));
        app.Use(async (context, next) =>
        {
            try
            {
                Connection.Of(context).Asked();
                context.Items[typeof(Account)] = new Account();
                await Answer(context, next);
                await context.Response.CompleteAsync();
            }
            finally
            {
                Connection.Of(context).Answered();
                operators.Ended(context);
            }
        });
        app.Use(Route);
        Map(app);
        await app.StartAsync();
        Console.WriteLine("listening on " + app.Urls.First().Replace("http://", ""));
        await Task.Delay(Timeout.Infinite, Ending).ContinueWith(_ => { }, TaskScheduler.Default);
        using var abort = new CancellationTokenSource();
        var stopped = app.StopAsync(abort.Token);
        await Task.WhenAny(stopped, Task.Delay(patience));
        await Sessions.Written();
        await Task.WhenAny(stopped, Task.Delay(1000));
        abort.Cancel();
        await stopped;
    }

    /// <summary>Stands before what answers a request that was let in.</summary>
    protected virtual Task Route(HttpContext context, RequestDelegate next) => next(context);

    /// <summary>Reads the body into a memory, and keeps it.</summary>
    protected virtual Task<IResult> FeedMemory(HttpContext context, string name) =>
        Sessions.Use(name, true, context, Over, (client, session, cancelled) =>
            Feed(context, session, () => Sessions.Keep(name, client, session), cancelled));

    /// <summary>A snapshot of a memory.</summary>
    protected virtual Task<byte[]> CopyOf(HttpContext context, string name) =>
        Sessions.Use(name, false, context, Over, (_, session, _) => Task.FromResult(session.Snapshot()));

    /// <summary>Counts what is read into a session: where it is then, and the bytes that the model has no token for.</summary>
    protected static async Task<(long Position, long Skipped)> Count(HttpContext context, Session session, Func<Task> feed)
    {
        long before = session.Info().UnknownBytes, position = session.Position;
        try
        {
            await feed();
        }
        finally
        {
            Account.Of(context).Read += Work.PositionOf(session, position) - position;
        }
        return (session.Position, session.Info().UnknownBytes - before);
    }

    /// <summary>Reads a text into a session, a piece in a turn.</summary>
    /// <param name="admitted">It has been let into the queue, and is not refused.</param>
    protected async Task Feed(HttpContext context, Session session, Stream text, bool admitted, CancellationToken cancelled)
    {
        using var pieces = new InTurns(text, work.Feeding, Account.Of(context).Client);
        await pieces.Begin(admitted, cancelled);
        await session.FeedAsync(pieces, null, cancelled);
    }

    /// <summary>Refuses a feed where nobody else may wait.</summary>
    protected void AdmitFeed()
    {
        if (work.Feeding.Full) throw work.Feeding.Refused();
    }

    /// <summary>The body of a request.</summary>
    protected Body Body(HttpContext context) => new(context, bodyTimeout);

    private void Map(WebApplication app)
    {
        app.MapGet("/model", () => Results.Text(model.InfoJson(), "application/json"));

        app.MapGet("/sessions", () => Results.Json(Sessions.Describe()));

        // Makes a session with the options of the body, a JSON object such as {"max_tokens": 100}; empty: the defaults.
        app.MapPost("/sessions", async (HttpContext context) =>
        {
            var session = model.CreateSession(Json.OptionsOf(await Body(context).ToArrayAsync(Over)));
            string id = Convert.ToHexString(RandomNumberGenerator.GetBytes(16)).ToLowerInvariant();
            await Sessions.Add(id, session);
            return Results.Json(new { id }, statusCode: 201);
        });

        app.MapDelete("/sessions/{id}", (string id) =>
        {
            Sessions.Nameless(id);
            Sessions.Remove(id);
            return Results.NoContent();
        });

        app.MapPost("/sessions/{id}/cancel", (string id) =>
        {
            Sessions.Of(id).Cancel();
            return Results.NoContent();
        });

        app.MapPost("/sessions/{id}/feed", (string id, HttpContext context) =>
            Sessions.Nameless(id).Use(context, Over, (session, cancelled) =>
                Feed(context, session, () => Task.CompletedTask, cancelled)));

        app.MapPost("/sessions/{id}/generate", async (string id, HttpContext context) =>
        {
            var client = Sessions.Nameless(id);
            await Body(context).ToArrayAsync(Over);
            return await client.Use(context, Over, (session, cancelled) => work.Do(context, cancelled, either =>
                new Events(context.Response, work).Generate(session, either)));
        });

        // Reads what was said and writes the reply.
        app.MapPost("/sessions/{id}/chat", async (string id, HttpContext context) =>
        {
            var client = Sessions.Nameless(id);
            string messages = Json.MessagesOf(await Body(context).ToArrayAsync(Over));
            return await client.Use(context, Over, (session, cancelled) => work.Do(context, cancelled, async either =>
            {
                await work.ReadChat(context, session, messages, either);
                return await new Events(context.Response, work).Generate(session, either);
            }));
        });

        app.MapGet("/sessions/{id}/snapshot", (string id, HttpContext context) =>
            Sessions.Nameless(id).Use(context, Over, (session, _) => Task.FromResult(Snapshot(session))));
        app.MapPut("/sessions/{id}/snapshot", async (string id, HttpContext context) =>
        {
            var client = Sessions.Nameless(id);
            byte[] snapshot = await Body(context).ToArrayAsync(Over);
            return await client.Use(context, Over, (session, _) =>
            {
                session.Restore(snapshot);
                return Task.FromResult(PositionOf(session));
            });
        });

        new OpenAi(model.Info().Name, Sessions, work, settings.Number("INFINI_MAX_TOKENS", 4096), Body, Over).Map(app);
        app.MapGet("/v1/memories/{name}", (string name, HttpContext context) =>
            Sessions.Use(name, false, context, Over, (_, session, _) => Task.FromResult(Snapshot(session))));
        app.MapPut("/v1/memories/{name}", async (string name, HttpContext context) =>
        {
            Sessions.CheckName(name); // before the body is read
            byte[] snapshot = await Body(context).ToArrayAsync(Over);
            return await Sessions.Use(name, true, context, Over, async (client, session, _) =>
            {
                session.Restore(snapshot);
                client.Known = "";
                await Sessions.Keep(name, client, session);
                return PositionOf(session);
            });
        });
        app.MapPost("/v1/memories/{name}/feed", (string name, HttpContext context) => FeedMemory(context, name));

        // Adds what another memory holds.
        app.MapPost("/v1/memories/{name}/merge", async (string name, HttpContext context) =>
        {
            var fields = new Fields(await Body(context).ToArrayAsync(Over));
            string other = fields.Text("memory") ?? throw Refusal.Invalid("\"memory\" must name the memory that is added");
            double weight = fields.Number("weight") ?? 1;
            byte[] snapshot = await CopyOf(context, other);
            return await Sessions.Use(name, true, context, Over, async (client, session, cancelled) =>
            {
                session.Merge(snapshot, weight, cancelled);
                await Sessions.Keep(name, client, session);
                return PositionOf(session);
            });
        });

        app.MapPut("/v1/memories/{name}/note", async (string name, HttpContext context) =>
        {
            string? note = new Fields(await Body(context).ToArrayAsync(Over)).Text("note");
            if (note is null || note.Contains('\0')) throw Refusal.Invalid("\"note\" must be a text");
            if (Encoding.UTF8.GetByteCount(note) > MaxNote)
                throw Refusal.Invalid($"\"note\" may have at most {MaxNote} bytes");
            return await Sessions.Use(name, false, context, Over, async (client, session, _) =>
            {
                client.Note = note;
                await Sessions.Keep(name, client, session);
                return Results.Json(new { note });
            });
        });
        if (settings.Text("INFINI_PAGE") is { } page)
        {
            byte[] html = File.ReadAllBytes(page);
            app.MapGet("/", (HttpContext context) =>
            {
                context.Response.Headers.ContentSecurityPolicy = Operators.PagePolicy;
                return Results.Bytes(html, "text/html; charset=utf-8");
            });
        }
        app.MapGet("/healthz", () => Results.Json(new { status = "ok" }));
        app.MapGet("/readyz", () => work.Full ? throw new Refusal(503, "QUEUE_FULL", "as many requests wait as may")
            : Results.Json(new { status = "ready" }));
        app.MapGet("/metrics", async () => Results.Text(await operators.Metrics(), "text/plain; version=0.0.4"));
    }

    private static IResult Snapshot(Session session) => Results.Bytes(session.Snapshot(), "application/octet-stream");

    private static IResult PositionOf(Session session) => Results.Json(new { position = session.Position });

    // Reads the body, and keeps that before it answers.
    private async Task<IResult> Feed(HttpContext context, Session session, Func<Task> keep, CancellationToken cancelled)
    {
        long before = session.Position;
        try
        {
            var (position, skipped) = await Count(context, session, () => Feed(context, session, Body(context), false, cancelled));
            before = -1;
            return Results.Json(new { position, skipped });
        }
        finally
        {
            if (Work.PositionOf(session, -1) != before) await keep();
        }
    }

    private async Task Answer(HttpContext context, RequestDelegate next)
    {
        try
        {
            if (Ending.IsCancellationRequested) throw Refusal.Ending();
            if (!operators.Admit(context)) return;
            var limit = context.Features.GetRequiredFeature<IHttpMaxRequestBodySizeFeature>();
            limit.MaxRequestBodySize = Math.Min(maxBody, context.Request.Path.Value!.Split('/') switch
            {
                [_, "v1", "memories", _] when context.Request.Method == "PUT" => maxBody,
                [.., "feed" or "snapshot"] => maxBody,
                [.., "chat" or "completions" or "embeddings"] => MaxMessages,
                _ => MaxOptions,
            });
            if (context.Request.ContentLength > limit.MaxRequestBodySize) throw Refusal.TooLarge();
            await next(context);
            if (context.Response is { HasStarted: false, StatusCode: 404 })
                throw new Refusal(404, "NOT_FOUND", "there is no such path");
            if (context.Response is { HasStarted: false, StatusCode: 405 })
                throw new Refusal(405, "METHOD_NOT_ALLOWED", "the path has no such method");
        }
        catch (Exception e) when (!context.Response.HasStarted)
        {
            var refusal = Refusal.Of(e);
            if (refusal.Name is "INTERNAL" or "STORE_FAILED") operators.LogError("a request failed", e);
            if (Connection.Of(context) is { Left.IsCancellationRequested: true, Closing: var closing })
            {
                if (closing && (Refusal.IsCancel(e) || refusal.Code == 400)) // of which the rest was not read
                    refusal = Refusal.Ending();
                else if (Refusal.IsCancel(e)) refusal = Refusal.Invalid("the client went away before the call had ended");
                context.Response.Headers.Connection = "close"; // or Kestrel would look for another request
            }
            if (Account.Of(context).Late.IsCancellationRequested && Refusal.IsCancel(e))
                refusal = new Refusal(504, "TIMEOUT", "the request took longer than it may");
            if (refusal.Name == "CANCELLED" || refusal.Code == 504 && Account.Of(context).Kept)
                context.Response.Headers["x-should-retry"] = "false"; // which OpenAI's clients heed
            if (refusal.Code == 429) context.Response.Headers.RetryAfter = work.RetryAfter.ToString();
            context.Response.StatusCode = refusal.Code;
            await context.Response.WriteAsJsonAsync(context.Request.Path.StartsWithSegments("/v1")
                ? OpenAi.Error(refusal) : new { error = refusal.Name, message = refusal.Message });
        }
        catch (OperationCanceledException)
        {
            // nobody listens
        }
    }
}
