using Infini;
using Infini.Extensions.AI;
using Microsoft.Extensions.AI;
using Microsoft.Extensions.DependencyInjection.Extensions;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Options;

namespace Microsoft.Extensions.DependencyInjection;

/// <summary>Registers Infini's clients. They are singletons, and so is the model, which is opened when it is first
/// needed and disposed with the container; a <see cref="Model"/> that is registered goes before the options'
/// file.</summary>
/// <remarks>Under a key are a client, its options (named as the key) and its model. An <see cref="IConversationStore"/>
/// that is registered, under the key or without one, goes before the options' folder.</remarks>
public static class InfiniServiceCollectionExtensions
{
    /// <summary>Registers an <see cref="IChatClient"/>.</summary>
    /// <param name="services">Where.</param>
    /// <param name="configure">Sets options; null: they are configured elsewhere.</param>
    /// <returns>For what goes around it, such as UseOpenTelemetry and UseLogging.</returns>
    public static ChatClientBuilder AddInfiniChatClient(this IServiceCollection services,
                                                        Action<InfiniClientOptions>? configure = null)
    {
        Prepare(services, null, configure);
        return services.AddChatClient(provider => Client(provider, null));
    }

    /// <summary>Registers an <see cref="IChatClient"/> under a key.</summary>
    /// <param name="services">Where.</param>
    /// <param name="serviceKey">The key.</param>
    /// <param name="configure">Sets the options of that name; null: they are configured elsewhere.</param>
    /// <returns>For what goes around it.</returns>
    public static ChatClientBuilder AddKeyedInfiniChatClient(this IServiceCollection services, string serviceKey,
                                                             Action<InfiniClientOptions>? configure = null)
    {
        ArgumentException.ThrowIfNullOrEmpty(serviceKey);
        Prepare(services, serviceKey, configure);
        return services.AddKeyedChatClient(serviceKey, provider => Client(provider, serviceKey));
    }

    /// <summary>Registers an embedding generator, which shares model and options with the chat client.</summary>
    /// <param name="services">Where.</param>
    /// <param name="configure">Sets options; null: they are configured elsewhere.</param>
    /// <returns>For what goes around it.</returns>
    public static EmbeddingGeneratorBuilder<string, Embedding<float>> AddInfiniEmbeddingGenerator(
        this IServiceCollection services, Action<InfiniClientOptions>? configure = null)
    {
        Prepare(services, null, configure);
        return services.AddEmbeddingGenerator(provider => Generator(provider, null));
    }

    /// <summary>Registers an embedding generator under a key, which shares model and options with the chat client under
    /// that key.</summary>
    /// <param name="services">Where.</param>
    /// <param name="serviceKey">The key.</param>
    /// <param name="configure">Sets the options of that name; null: they are configured elsewhere.</param>
    /// <returns>For what goes around it.</returns>
    public static EmbeddingGeneratorBuilder<string, Embedding<float>> AddKeyedInfiniEmbeddingGenerator(
        this IServiceCollection services, string serviceKey, Action<InfiniClientOptions>? configure = null)
    {
        ArgumentException.ThrowIfNullOrEmpty(serviceKey);
        Prepare(services, serviceKey, configure);
        return services.AddKeyedEmbeddingGenerator(serviceKey, provider => Generator(provider, serviceKey));
    }

    private static void Prepare(IServiceCollection services, string? key, Action<InfiniClientOptions>? configure)
    {
        ArgumentNullException.ThrowIfNull(services);
        var options = services.AddOptions<InfiniClientOptions>(key)
            .Validate(o => o.ConcurrentCalls >= 1, "ConcurrentCalls is at least 1")
            .Validate(o => o.ConversationsInMemory >= 0, "ConversationsInMemory is at least 0");
        if (configure is not null) options.Configure(configure);
        if (key is null) services.TryAddSingleton(provider => Open(provider, null));
        else services.TryAddKeyedSingleton(key, (provider, _) => Open(provider, key));
    }

    private static InfiniClientOptions OptionsOf(IServiceProvider provider, string? key) =>
        provider.GetRequiredService<IOptionsMonitor<InfiniClientOptions>>().Get(key);

    private static Model Open(IServiceProvider provider, string? key)
    {
        var options = OptionsOf(provider, key);
        return Model.Open(options.ModelPath ?? throw new InvalidOperationException(
            "infini: no model: register an Infini.Model, or set InfiniClientOptions.ModelPath"), options.Model);
    }

    private static Model ModelOf(IServiceProvider provider, string? key) =>
        key is null ? provider.GetRequiredService<Model>() : provider.GetRequiredKeyedService<Model>(key);

    private static IChatClient Client(IServiceProvider provider, string? key) => new InfiniChatClient(
        ModelOf(provider, key), OptionsOf(provider, key),
        (key is null ? null : provider.GetKeyedService<IConversationStore>(key))
            ?? provider.GetService<IConversationStore>(),
        provider.GetService<ILogger<InfiniChatClient>>());

    private static IEmbeddingGenerator<string, Embedding<float>> Generator(IServiceProvider provider, string? key) =>
        new InfiniEmbeddingGenerator(ModelOf(provider, key), OptionsOf(provider, key));
}
