// Serves sessions of one model over HTTP, with ASP.NET Core. samples/SERVICES.md describes its calls, which the services in
// the other languages have too.
//   INFINI_TOKEN=secret dotnet run -- MODEL.gguf [ADDRESS]
using System.Security.Cryptography;
using System.Text;
using Microsoft.AspNetCore.Http.Features;
using Infini;

string? token = Environment.GetEnvironmentVariable("INFINI_TOKEN");
if (args.Length < 1 || string.IsNullOrEmpty(token))
{
    Console.Error.WriteLine("usage: INFINI_TOKEN=secret dotnet run -- MODEL.gguf [ADDRESS]");
    return 1;
}
const long MaxOptions = 1 << 16, MaxMessages = 1 << 20; // bytes of a body
long maxBody = Number("INFINI_MAX_BODY", 1L << 30), maxSessions = Number("INFINI_MAX_SESSIONS", 100);
TimeSpan headerTimeout = Seconds("INFINI_HEADER_TIMEOUT", 10), bodyTimeout = Seconds("INFINI_BODY_TIMEOUT", 30);

using var model = Model.Open(args[0]);
var info = model.Info();
if (info is { TrainedMemory: false, Window: var window })
{
    Console.Error.WriteLine($"{args[0]} has no trained memory: it sees only its window of {window} tokens. "
        + $"`infini train {args[0]} --adapt` teaches it one.");
}
string? store = Environment.GetEnvironmentVariable("INFINI_STORE");
if (store is not null) Directory.CreateDirectory(store);
using var sessions = new Sessions(model, maxSessions, store);

var builder = WebApplication.CreateSlimBuilder();
builder.Logging.SetMinimumLevel(LogLevel.Warning);
builder.Services.Configure<HostOptions>(options => options.ShutdownTimeout = TimeSpan.FromSeconds(3));
builder.WebHost.UseSockets(options => options.MaxWriteBufferSize = 1); // what was written was sent, whatever comes then
builder.WebHost.ConfigureKestrel(options =>
{
    options.Limits.MaxRequestBodySize = maxBody;
    options.Limits.RequestHeadersTimeout = options.Limits.KeepAliveTimeout = headerTimeout;
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
        await Answer(context, next);
        await context.Response.CompleteAsync();
    }
    finally
    {
        Connection.Of(context).Answered();
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
    sessions.Of(id).Use(context, ending, async (session, cancelled) =>
    {
        long before = session.Info().UnknownBytes;
        await session.FeedAsync(Body(context), null, cancelled);
        return Results.Json(new { position = session.Position, skipped = session.Info().UnknownBytes - before });
    }));

app.MapPost("/sessions/{id}/generate", async (string id, HttpContext context) =>
{
    var client = sessions.Of(id);
    await Body(context).ToArrayAsync(ending);
    return await client.Use(context, ending, (session, cancelled) => new Events(context.Response).Generate(session, cancelled));
});

// Reads what was said and writes the reply.
app.MapPost("/sessions/{id}/chat", async (string id, HttpContext context) =>
{
    var client = sessions.Of(id);
    string messages = Json.MessagesOf(await Body(context).ToArrayAsync(ending));
    return await client.Use(context, ending, async (session, cancelled) =>
    {
        await session.ChatJsonAsync(messages, null, cancelled);
        return await new Events(context.Response).Generate(session, cancelled);
    });
});

app.MapGet("/sessions/{id}/snapshot", (string id, HttpContext context) => Snapshot(sessions.Of(id), context));
app.MapPut("/sessions/{id}/snapshot", (string id, HttpContext context) => Restore(id, sessions.Of(id), context));

new OpenAi(info.Name, sessions, Number("INFINI_MAX_TOKENS", 4096), Body, ending).Map(app);
app.MapGet("/v1/memories/{name}", (string name, HttpContext context) => Snapshot(sessions.Memory(name, false), context));
app.MapPut("/v1/memories/{name}", (string name, HttpContext context) =>
    Restore(Sessions.MemoryId + name, sessions.Memory(name, true), context));
app.MapGet("/healthz", () => Results.Json(new { status = "ok" }));

await app.StartAsync();
Console.WriteLine("listening on " + app.Urls.First().Replace("http://", ""));
await app.WaitForShutdownAsync();
return 0;

Task<IResult> Snapshot(Client client, HttpContext context) => client.Use(context, ending, (session, _) =>
    Task.FromResult(Results.Bytes(session.Snapshot(), "application/octet-stream")));

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
        string given = context.Request.Headers.Authorization.ToString();
        if (context.Request.Path != "/healthz" && !CryptographicOperations.FixedTimeEquals(Encoding.UTF8.GetBytes(given), Encoding.UTF8.GetBytes("Bearer " + token)))
            throw new Refusal(401, "UNAUTHORIZED", "the Authorization header must be: Bearer TOKEN");
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
        if (Connection.Of(context).Left.IsCancellationRequested)
        {
            if (Refusal.IsCancel(e)) refusal = Refusal.Invalid("the client went away before the call had ended");
            context.Response.Headers.Connection = "close"; // or Kestrel would look for another request
        }
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

static long Number(string variable, long otherwise) =>
    long.TryParse(Environment.GetEnvironmentVariable(variable), out long value) && value > 0 ? value : otherwise;

static TimeSpan Seconds(string variable, long otherwise) => TimeSpan.FromSeconds(Number(variable, otherwise));
