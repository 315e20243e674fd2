// A service on LLamaSharp, and the load by which it is compared with samples/csharp-service (serving.sh builds and runs this):
//
//     serve MODEL ADDRESS THREADS PLACES             POST /v1/completions as a stream, by llama.cpp's batches
//     load NAME PORT PID TEXT TOKENS PROMPT BOOK CLIENTS...
//                                                    so many clients at once, for each number a row of a table; PROMPT: its
//                                                    characters; BOOK 1: meanwhile another client feeds TEXT, again and again
using System.Globalization;
using System.Net.Http.Headers;
using System.Runtime.Intrinsics.X86;
using System.Text;
using System.Text.Json;
using System.Threading.Channels;
using LLama;
using LLama.Batched;
using LLama.Common;
using LLama.Native;
using LLama.Sampling;

CultureInfo.CurrentCulture = CultureInfo.InvariantCulture;
switch (args)
{
    case ["serve", var model, var address, var threads, var places]:
        await Server.Run(model, address, int.Parse(threads), int.Parse(places));
        return 0;
    case ["load", var name, var port, var process, var text, var tokens, var prompt, var book, .. var clients]:
        var load = new Load(int.Parse(port), int.Parse(process), File.ReadAllText(text), int.Parse(tokens), int.Parse(prompt), book == "1");
        foreach (string count in clients) Console.WriteLine(await load.Run(name, int.Parse(count)));
        return 0;
    default:
        Console.Error.WriteLine("usage: serve MODEL ADDRESS THREADS PLACES | load NAME PORT PID TEXT TOKENS PROMPT BOOK CLIENTS...");
        return 1;
}

/// <summary>What LLamaSharp offers for many at once, behind the smallest interface that the load asks for.</summary>
internal static class Server
{
    private sealed record Request(string Prompt, int MaxTokens, Channel<string> Text, CancellationToken Left)
    {
        public int Read, Written;
    }

    internal static async Task Run(string path, string address, int threads, int places)
    {
        // What LLamaSharp would choose by itself, but also where its build for older .NET does not look.
        NativeLibraryConfig.All.WithLogCallback((_, _) => { })
            .WithAvx(Avx512F.IsSupported ? AvxLevel.Avx512 : Avx2.IsSupported ? AvxLevel.Avx2 : Avx.IsSupported ? AvxLevel.Avx : AvxLevel.None);
        var how = new ModelParams(path)
        {
            ContextSize = (uint)(512 * places), SeqMax = (uint)places, KVUnified = true, Threads = threads, BatchThreads = threads, GpuLayerCount = 0,
        };
        using var weights = LLamaWeights.LoadFromFile(how);
        using var executor = new BatchedExecutor(weights, how);
        var requests = Channel.CreateUnbounded<Request>();
        var writing = Task.Run(() => Write(executor, requests.Reader, places));

        var builder = WebApplication.CreateSlimBuilder();
        builder.Logging.SetMinimumLevel(LogLevel.Error);
        var app = builder.Build();
        app.Urls.Add("http://" + address);
        app.MapPost("/v1/completions", async (HttpContext context, JsonElement body) =>
        {
            var request = new Request(body.GetProperty("prompt").GetString()!, body.GetProperty("max_tokens").GetInt32(),
                                      Channel.CreateUnbounded<string>(), context.RequestAborted);
            requests.Writer.TryWrite(request);
            context.Response.ContentType = "text/event-stream";
            async Task Send(object data)
            {
                await context.Response.WriteAsync($"data: {JsonSerializer.Serialize(data)}\n\n");
                await context.Response.Body.FlushAsync();
            }
            await foreach (string text in request.Text.Reader.ReadAllAsync(context.RequestAborted))
                await Send(new { choices = new[] { new { index = 0, text, finish_reason = (string?)null } } });
            await Send(new { choices = Array.Empty<object>(), usage = new { prompt_tokens = request.Read, completion_tokens = request.Written } });
            await context.Response.WriteAsync("data: [DONE]\n\n");
        });
        await app.StartAsync();
        Console.WriteLine("listening on " + app.Urls.First().Replace("http://", ""));
        await Task.WhenAny(app.WaitForShutdownAsync(), writing);
        if (writing.IsFaulted) await writing;
    }

    // Requests join between two steps and leave when they are done; each step is one batch, of new prompts and of a token of each
    // that writes.
    private static async Task Write(BatchedExecutor executor, ChannelReader<Request> requests, int places)
    {
        var running = new List<(Request Request, Conversation Conversation, ISamplingPipeline Sampler, StreamingTokenDecoder Decoder)>();
        while (running.Count > 0 || await requests.WaitToReadAsync())
        {
            while (running.Count < places && requests.TryRead(out var request))
            {
                var conversation = executor.Create();
                var prompt = executor.Context.Tokenize(request.Prompt);
                conversation.Prompt(prompt);
                request.Read = prompt.Length;
                running.Add((request, conversation, new GreedySamplingPipeline(), new StreamingTokenDecoder(executor.Context)));
            }
            if (await executor.Infer() is not DecodeResult.Ok and var result) throw new InvalidOperationException($"llama.cpp says {result}");
            running.RemoveAll(run =>
            {
                var (request, conversation, sampler, decoder) = run;
                if (!conversation.RequiresSampling) return false; // it stands in a later batch
                var token = conversation.Sample(sampler);
                bool ends = request.Left.IsCancellationRequested || token.IsEndOfGeneration(executor.Model.Vocab);
                if (!ends)
                {
                    decoder.Add(token);
                    if (decoder.Read() is { Length: > 0 } text) request.Text.Writer.TryWrite(text);
                    ends = ++request.Written == request.MaxTokens;
                }
                if (!ends)
                {
                    conversation.Prompt(token);
                    return false;
                }
                conversation.Dispose();
                (sampler as IDisposable)?.Dispose();
                request.Text.Writer.Complete();
                return true;
            });
        }
    }
}

/// <summary>Clients that each ask, read the answer to its end, and ask again.</summary>
internal sealed class Load
{
    private readonly HttpClient http = new(new SocketsHttpHandler { MaxConnectionsPerServer = 1000 }) { Timeout = Timeout.InfiniteTimeSpan };
    private readonly int port, process, tokens, promptLength;
    private readonly string text;
    private readonly bool book;
    private int asked;

    internal Load(int port, int process, string text, int tokens, int promptLength, bool book)
    {
        (this.port, this.process, this.text, this.tokens, this.promptLength, this.book) = (port, process, text, tokens, promptLength, book);
        http.DefaultRequestHeaders.Authorization = new AuthenticationHeaderValue("Bearer", "secret");
    }

    internal async Task<string> Run(string name, int clients)
    {
        int each = Math.Max(1, Math.Min(4, 32 / clients));
        await Ask(4); // whatever is made when it is needed first
        using var done = new CancellationTokenSource();
        var reading = book ? Read(done.Token) : Task.FromResult(0.0);
        double processor = ProcessorSeconds();
        long begun = Environment.TickCount64;
        var answers = (await Task.WhenAll(Enumerable.Range(0, clients).Select(async _ =>
        {
            var mine = new List<(double First, int Written)>();
            for (int i = 0; i < each; ++i) mine.Add(await Ask(tokens));
            return mine;
        }))).SelectMany(mine => mine).ToList();
        double took = (Environment.TickCount64 - begun) / 1e3;
        processor = ProcessorSeconds() - processor;
        done.Cancel();
        double read = await reading;
        int written = answers.Sum(answer => answer.Written);
        var first = answers.Select(answer => answer.First).Order().ToList();
        double At(double share) => first[(int)Math.Min(first.Count - 1, Math.Ceiling(share * first.Count) - 1)];
        return $"| {name} | {clients} | {answers.Count} | {answers.Count / took:F2} | {written / took:F1} | {written / processor:F1} | {At(0.5):F2} | {At(0.99):F2} | {(book ? read.ToString("F1") : "")} |";
    }

    // Feeds the book, 32 KiB after 32 KiB, until it is told to end: KB a second that were read.
    private async Task<double> Read(CancellationToken end)
    {
        const int Piece = 32768;
        long begun = Environment.TickCount64, pieces = 0;
        double took = 1;
        try
        {
            while (true)
            {
                int begin = (int)(pieces * Piece % (text.Length - Piece));
                using var answer = await http.PostAsync($"http://127.0.0.1:{port}/v1/memories/book/feed", new StringContent(text.Substring(begin, Piece)), end);
                answer.EnsureSuccessStatusCode();
                took = (Environment.TickCount64 - begun) / 1e3;
                ++pieces;
            }
        }
        catch (OperationCanceledException) when (end.IsCancellationRequested)
        {
            return pieces * Piece / 1e3 / took;
        }
    }

    // The seconds to the first text, and the tokens.
    private async Task<(double First, int Written)> Ask(int most)
    {
        int begin = Interlocked.Increment(ref asked) * promptLength % (text.Length - promptLength);
        var fields = new { prompt = text.Substring(begin, promptLength), max_tokens = most, temperature = 0, stream = true, stream_options = new { include_usage = true } };
        using var request = new HttpRequestMessage(HttpMethod.Post, $"http://127.0.0.1:{port}/v1/completions")
        {
            Content = new StringContent(JsonSerializer.Serialize(fields), Encoding.UTF8, "application/json"),
        };
        long begun = Environment.TickCount64;
        double first = 0;
        int written = 0;
        using var answer = await http.SendAsync(request, HttpCompletionOption.ResponseHeadersRead);
        answer.EnsureSuccessStatusCode();
        using var lines = new StreamReader(await answer.Content.ReadAsStreamAsync());
        while (await lines.ReadLineAsync() is { } line)
        {
            if (!line.StartsWith("data: {", StringComparison.Ordinal)) continue;
            var data = JsonDocument.Parse(line["data: ".Length..]).RootElement;
            if (data.TryGetProperty("usage", out var usage)) written = usage.GetProperty("completion_tokens").GetInt32();
            else if (first == 0) first = Math.Max(1, Environment.TickCount64 - begun) / 1e3;
        }
        return (first, written);
    }

    // Of the service, since it began.
    private double ProcessorSeconds()
    {
        using var service = System.Diagnostics.Process.GetProcessById(process);
        return service.TotalProcessorTime.TotalSeconds;
    }
}
