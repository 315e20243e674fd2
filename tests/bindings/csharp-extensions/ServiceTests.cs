using System.Diagnostics;
using System.Diagnostics.Metrics;
using Infini;
using Infini.Extensions.AI;
using Microsoft.Extensions.AI;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Options;
using Microsoft.SemanticKernel;
using Xunit;
using static Support;

public class ServiceTests
{
    private static void Configure(InfiniClientOptions options)
    {
        var wanted = Options();
        (options.ModelPath, options.Model, options.Session) = (wanted.ModelPath, wanted.Model, wanted.Session);
    }

    [Fact]
    public async Task ServicesShareAModelWhichTheContainerDisposes()
    {
        var services = new ServiceCollection();
        services.AddInfiniChatClient(Configure);
        services.AddInfiniEmbeddingGenerator();
        Model model;
        await using (var provider = services.BuildServiceProvider())
        {
            var client = provider.GetRequiredService<IChatClient>();
            model = provider.GetRequiredService<Model>();
            Assert.Same(model, client.GetService<Model>());
            Assert.Same(model, provider.GetRequiredService<IEmbeddingGenerator<string,
                Embedding<float>>>().GetService<Model>());
            Assert.Equal(Answers(Says("Once"))[0], (await client.GetResponseAsync("Once")).Text);
        }
        Assert.Throws<ObjectDisposedException>(() => model.Info());
    }

    [Fact]
    public async Task KeysHaveOptionsAndStoresOfTheirOwn()
    {
        using var folder = new Folder();
        var store = new FolderConversationStore(folder.Path);
        var services = new ServiceCollection();
        services.AddSingleton(Shared); // one that is there goes before a file
        services.AddInfiniChatClient(o => o.ModelId = "first");
        services.AddKeyedInfiniChatClient("brief", o => { Configure(o); o.Session.MaxTokens = 3; });
        services.AddKeyedInfiniEmbeddingGenerator("brief");
        services.AddKeyedSingleton<IConversationStore>("brief", store);
        await using var provider = services.BuildServiceProvider();
        Assert.Same(Shared, provider.GetRequiredService<IChatClient>().GetService<Model>());
        Assert.Equal("first",
            provider.GetRequiredService<IChatClient>().GetService<ChatClientMetadata>()!.DefaultModelId);
        var brief = provider.GetRequiredKeyedService<IChatClient>("brief");
        Assert.Equal(3, (await brief.GetResponseAsync("Once", In("a"))).Usage!.OutputTokenCount);
        Assert.Same(store, brief.GetService<IConversationStore>());
        Assert.NotNull(await store.ReadAsync("a"));
        Assert.NotSame(Shared, brief.GetService<Model>());
        Assert.NotNull(provider.GetKeyedService<IEmbeddingGenerator<string, Embedding<float>>>("brief"));
    }

    [Fact]
    public void SaysWhichOptionIsWrong()
    {
        var services = new ServiceCollection();
        services.AddInfiniChatClient();
        services.AddKeyedInfiniChatClient("bad", o => o.ConcurrentCalls = 0);
        using var provider = services.BuildServiceProvider();
        var none = Assert.Throws<InvalidOperationException>(() => provider.GetRequiredService<IChatClient>());
        Assert.Contains("ModelPath", none.Message);
        var bad = Assert.Throws<OptionsValidationException>(() => provider.GetRequiredKeyedService<IChatClient>("bad"));
        Assert.Contains("ConcurrentCalls", bad.Message);
    }

    [Fact]
    public async Task TelemetryAndLogsTellNumbersAndNoWords()
    {
        var activities = new List<Activity>();
        var measured = new Dictionary<string, double>();
        var logged = new List<string>();
        using var listener = new ActivityListener
        {
            ShouldListenTo = source => source.Name == "telling",
            Sample = (ref ActivityCreationOptions<ActivityContext> _) => ActivitySamplingResult.AllDataAndRecorded,
            ActivityStopped = activity => { lock (activities) activities.Add(activity); },
        };
        ActivitySource.AddActivityListener(listener);
        using var meters = new MeterListener
        {
            InstrumentPublished = (instrument, listener) =>
            {
                if (instrument.Meter.Name == "telling") listener.EnableMeasurementEvents(instrument);
            },
        };
        void Measure(Instrument instrument, double value)
        {
            lock (measured) measured[instrument.Name] = measured.GetValueOrDefault(instrument.Name) + value;
        }
        meters.SetMeasurementEventCallback<int>((instrument, value, _, _) => Measure(instrument, value));
        meters.SetMeasurementEventCallback<double>((instrument, value, _, _) => Measure(instrument, value));
        meters.Start();

        var services = new ServiceCollection();
        services.AddLogging(logging => logging.SetMinimumLevel(LogLevel.Trace).AddProvider(new Recorder(logged)));
        services.AddInfiniChatClient(Configure).UseOpenTelemetry(sourceName: "telling");
        services.AddInfiniEmbeddingGenerator().UseOpenTelemetry(sourceName: "telling");
        await using (var provider = services.BuildServiceProvider())
        {
            var client = provider.GetRequiredService<IChatClient>();
            var response = await client.GetResponseAsync("Secretive");
            await client.GetStreamingResponseAsync(User("Secretive")).All();
            await provider.GetRequiredService<IEmbeddingGenerator<string,
                Embedding<float>>>().GenerateAsync(["Secretive"]);

            Assert.Equal(3, activities.Count);
            var chat = activities[0];
            Assert.Equal("infini", chat.GetTagItem("gen_ai.provider.name"));
            Assert.Equal(response.ModelId, chat.GetTagItem("gen_ai.response.model"));
            Assert.Equal(24, Convert.ToInt32(chat.GetTagItem("gen_ai.usage.output_tokens")));
            Assert.Contains("length", (string)chat.GetTagItem("gen_ai.response.finish_reasons")!);
            Assert.Equal(24, Convert.ToInt32(activities[1].GetTagItem("gen_ai.usage.output_tokens")));
            Assert.Equal("embeddings", activities[2].GetTagItem("gen_ai.operation.name"));
            Assert.True(measured["gen_ai.client.token.usage"] >= 48);
            Assert.True(measured["gen_ai.client.operation.duration"] > 0);
            Assert.Contains(logged, line => line.Contains("wrote 24"));
            Assert.DoesNotContain(logged, line => line.Contains("Secretive") || line.Contains(response.Text));
        }
    }

    [Fact]
    public async Task AKernelOfSemanticKernelAnswers()
    {
        var builder = Kernel.CreateBuilder();
        builder.Services.AddInfiniChatClient(Configure);
        var kernel = builder.Build();
        string expected = Answers(Says("Tell me of Lily."))[0];
        var result = await kernel.InvokePromptAsync("Tell me of {{$who}}.", new() { ["who"] = "Lily" });
        Assert.Equal(expected, result.ToString());
        var streamed = new List<string>();
        await foreach (var piece in kernel.InvokePromptStreamingAsync("Tell me of {{$who}}.",
            new() { ["who"] = "Lily" }))
            streamed.Add(piece.ToString());
        Assert.Equal(expected, string.Concat(streamed));
        Assert.True(streamed.Count > 10);
    }

    private sealed class Recorder(List<string> lines) : ILoggerProvider, ILogger
    {
        public ILogger CreateLogger(string categoryName) => this;

        public IDisposable? BeginScope<TState>(TState state) where TState : notnull => null;

        public bool IsEnabled(LogLevel logLevel) => true;

        public void Log<TState>(LogLevel logLevel, EventId eventId, TState state, Exception? exception,
                                Func<TState, Exception?, string> formatter)
        {
            lock (lines) lines.Add(formatter(state, exception));
        }

        public void Dispose()
        {
        }
    }
}
