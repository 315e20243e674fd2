// Serves sessions of one model over HTTP, with ASP.NET Core. samples/SERVICES.md describes its calls, which the services in
// the other languages have too.
//   INFINI_TOKEN=secret dotnet run -- MODEL.gguf [ADDRESS]
using System.Security.Cryptography;
using Microsoft.AspNetCore.Http.Features;
using Infini;

var settings = new Settings();
if (args.Length < 1 || settings.List("INFINI_TOKEN").Length == 0)
{
    Console.Error.WriteLine("usage: INFINI_TOKEN=secret dotnet run -- MODEL.gguf [ADDRESS]");
    return 1;
}
const long MaxOptions = 1 << 16, MaxMessages = 1 << 20; // bytes of a body
long maxBody = settings.Number("INFINI_MAX_BODY", 1L << 30);
TimeSpan headerTimeout = settings.Seconds("INFINI_HEADER_TIMEOUT", 10), bodyTimeout = settings.Seconds("INFINI_BODY_TIMEOUT", 30);

using var model = Model.Open(args[0]);
var info = model.Info();
if (info is { TrainedMemory: false, Window: var window })
{
    Console.Error.WriteLine($"{args[0]} has no trained memory: it sees only its window of {window} tokens. "
        + $"`infini train {args[0]} --adapt` teaches it one.");
}
string? store = settings.Text("INFINI_STORE");
if (store is not null) Directory.CreateDirectory(store);
using var sessions = new Sessions(model, settings.Number("INFINI_MAX_SESSIONS", 100), settings.Number("INFINI_MAX_MEMORIES", 10000), store);
var work = new Work(model, settings);
var operators = work.Operators = new Operators(settings, sessions, work.Working);
sessions.Log = operators.Log;
using var expiry = sessions.Expire(settings.Seconds("INFINI_IDLE_SECONDS", 0));

var builder = WebApplication.CreateSlimBuilder();
builder.Logging.SetMinimumLevel(LogLevel.Error);
builder.Services.Configure<HostOptions>(options => options.ShutdownTimeout = TimeSpan.FromSeconds(3));
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
app.Urls.Add("http://" + (args.Length > 1 ? args[1] : "127.0.0.1:8080"));
var ending = app.Lifetime.ApplicationStopping;

app.Use(async (context, next) =>
{
    try
    {
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

app.MapGet("/model", () => Results.Text(model.InfoJson(), "application/json"));

app.MapGet("/sessions", () => Results.Json(sessions.Describe()));

// Makes a session with the options of the body, a JSON object such as {"max_tokens": 100}; empty: the defaults.
app.MapPost("/sessions", async (HttpContext context) =>
{
    var session = model.CreateSession(Json.OptionsOf(await Body(context).ToArrayAsync(ending)));
    string id = Convert.ToHexString(RandomNumberGenerator.GetBytes(16)).ToLowerInvariant();
    sessions.Add(id, session);
    return Results.Json(new { id }, statusCode: 201);
});

app.MapDelete("/sessions/{id}", (string id) =>
{
    sessions.Of(id);
    sessions.Remove(id);
    return Results.NoContent();
});

app.MapPost("/sessions/{id}/cancel", (string id) =>
{
    sessions.Of(id).Cancel();
    return Results.NoContent();
});

app.MapPost("/sessions/{id}/feed", (string id, HttpContext context) =>
    sessions.Of(id).Use(context, ending, (session, cancelled) => Feed(context, session, cancelled)));

app.MapPost("/sessions/{id}/generate", async (string id, HttpContext context) =>
{
    var client = sessions.Of(id);
    await Body(context).ToArrayAsync(ending);
    return await client.Use(context, ending, (session, cancelled) => work.Do(context, cancelled, either =>
        new Events(context.Response, work).Generate(session, either)));
});

// Reads what was said and writes the reply.
app.MapPost("/sessions/{id}/chat", async (string id, HttpContext context) =>
{
    var client = sessions.Of(id);
    string messages = Json.MessagesOf(await Body(context).ToArrayAsync(ending));
    return await client.Use(context, ending, (session, cancelled) => work.Do(context, cancelled, async either =>
    {
        await work.ReadChat(context, session, messages, false, either);
        return await new Events(context.Response, work).Generate(session, either);
    }));
});

app.MapGet("/sessions/{id}/snapshot", (string id, HttpContext context) => Snapshot(sessions.Of(id), context));
app.MapPut("/sessions/{id}/snapshot", (string id, HttpContext context) => Restore(id, sessions.Of(id), context));

new OpenAi(info.Name, sessions, work, settings.Number("INFINI_MAX_TOKENS", 4096), Body, ending).Map(app);
app.MapGet("/v1/memories/{name}", (string name, HttpContext context) => Snapshot(sessions.Memory(name, false), context));
app.MapPut("/v1/memories/{name}", (string name, HttpContext context) =>
    Restore(Sessions.MemoryId + name, sessions.Memory(name, true), context));
app.MapPost("/v1/memories/{name}/feed", (string name, HttpContext context) =>
{
    var client = sessions.Memory(name, true);
    return client.Use(context, ending, async (session, cancelled) =>
    {
        try
        {
            return await Feed(context, session, cancelled);
        }
        finally
        {
            sessions.Keep(Sessions.MemoryId + name, client, session);
        }
    });
});

// Adds what another memory holds.
app.MapPost("/v1/memories/{name}/merge", async (string name, HttpContext context) =>
{
    var fields = new Fields(await Body(context).ToArrayAsync(ending));
    string other = fields.Text("memory") ?? throw Refusal.Invalid("\"memory\" must name the memory that is added");
    double weight = fields.Number("weight") ?? 1;
    byte[] snapshot = [];
    await sessions.Memory(other, false).Use(context, ending, (session, _) =>
    {
        snapshot = session.Snapshot();
        return Task.FromResult(Results.Empty);
    });
    var client = sessions.Memory(name, true);
    return await client.Use(context, ending, (session, cancelled) =>
    {
        session.Merge(snapshot, weight, cancelled);
        sessions.Keep(Sessions.MemoryId + name, client, session);
        return Task.FromResult(Results.Json(new { position = session.Position }));
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
app.MapGet("/readyz", () => work.Working.Full ? throw new Refusal(503, "QUEUE_FULL", "as many requests wait as may")
    : Results.Json(new { status = "ready" }));
app.MapGet("/metrics", () => Results.Text(operators.Metrics(), "text/plain; version=0.0.4"));

await app.StartAsync();
Console.WriteLine("listening on " + app.Urls.First().Replace("http://", ""));
await app.WaitForShutdownAsync();
return 0;

Task<IResult> Snapshot(Client client, HttpContext context) => client.Use(context, ending, (session, _) =>
    Task.FromResult(Results.Bytes(session.Snapshot(), "application/octet-stream")));

async Task<IResult> Feed(HttpContext context, Session session, CancellationToken cancelled)
{
    long before = session.Info().UnknownBytes, position = session.Position;
    try
    {
        await session.FeedAsync(Body(context), null, cancelled);
    }
    finally
    {
        Account.Of(context).Read += Work.PositionOf(session, position) - position;
    }
    return Results.Json(new { position = session.Position, skipped = session.Info().UnknownBytes - before });
}

async Task<IResult> Restore(string id, Client client, HttpContext context)
{
    byte[] snapshot = await Body(context).ToArrayAsync(ending);
    return await client.Use(context, ending, (session, _) =>
    {
        session.Restore(snapshot);
        client.Known = "";
        sessions.Keep(id, client, session);
        return Task.FromResult(Results.Json(new { position = session.Position }));
    });
}

async Task Answer(HttpContext context, RequestDelegate next)
{
    try
    {
        if (!operators.Admit(context)) return;
        var limit = context.Features.GetRequiredFeature<IHttpMaxRequestBodySizeFeature>();
        limit.MaxRequestBodySize = Math.Min(maxBody, context.Request.Path.Value!.Split('/')[^1] switch
        {
            "feed" or "snapshot" => maxBody,
            "chat" or "completions" or "embeddings" => MaxMessages,
            _ when context.Request.Path.StartsWithSegments("/v1/memories") && context.Request.Method == "PUT" => maxBody,
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
        if (refusal.Code == 500 && e is not InfiniException)
            operators.Log("error", new() { ["message"] = "a request failed", ["error"] = e.Message });
        if (Connection.Of(context).Left.IsCancellationRequested)
        {
            if (Refusal.IsCancel(e)) refusal = Refusal.Invalid("the client went away before the call had ended");
            context.Response.Headers.Connection = "close"; // or Kestrel would look for another request
        }
        if (Account.Of(context).Late.IsCancellationRequested && Refusal.IsCancel(e))
            refusal = new Refusal(504, "TIMEOUT", "the request took longer than it may");
        if (refusal.Code == 429) context.Response.Headers.RetryAfter = work.Working.RetryAfter.ToString();
        context.Response.StatusCode = refusal.Code;
        await context.Response.WriteAsJsonAsync(context.Request.Path.StartsWithSegments("/v1")
            ? OpenAi.Error(refusal) : new { error = refusal.Name, message = refusal.Message });
    }
    catch (OperationCanceledException)
    {
        // nobody listens
    }
}

Body Body(HttpContext context) => new(context, bodyTimeout);
