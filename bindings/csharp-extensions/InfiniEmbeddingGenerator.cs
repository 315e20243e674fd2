using Microsoft.Extensions.AI;

namespace Infini.Extensions.AI;

/// <summary>A model's embeddings of texts: its last layer's normed output after the last token of a text, at unit
/// length, so that a product of two is their cosine. Equal texts have equal embeddings.</summary>
/// <remarks>Any number of threads may call at once; <see cref="InfiniClientOptions.ConcurrentCalls"/> says how many
/// have the model work for them at a time. The generator does not dispose the model.</remarks>
public sealed class InfiniEmbeddingGenerator : IEmbeddingGenerator<string, Embedding<float>>
{
    private readonly Model model;
    private readonly InfiniSessionOptions defaults;
    private readonly EmbeddingGeneratorMetadata metadata;
    private readonly SemaphoreSlim working;
    private volatile bool disposed;

    /// <summary>Makes a generator of a model.</summary>
    /// <param name="model">Must live as long as the generator.</param>
    /// <param name="options">Null: all defaults.</param>
    /// <exception cref="ArgumentOutOfRangeException">An option is out of range.</exception>
    /// <exception cref="InfiniException">State: the model is a tokenizer alone.</exception>
    public InfiniEmbeddingGenerator(Model model, InfiniClientOptions? options = null)
    {
        ArgumentNullException.ThrowIfNull(model);
        options ??= new();
        ArgumentOutOfRangeException.ThrowIfLessThan(options.ConcurrentCalls, 1, nameof(options));
        (this.model, defaults) = (model, options.Session);
        metadata = new("infini", null, options.ModelId ?? model.Info().Name, model.Width);
        working = new(options.ConcurrentCalls);
    }

    /// <inheritdoc/>
    /// <exception cref="ArgumentException">A text is null or empty.</exception>
    /// <exception cref="NotSupportedException">Other dimensions than the model's are asked for.</exception>
    /// <exception cref="InfiniException">As for a text that a <see cref="Session"/> is fed.</exception>
    /// <exception cref="OperationCanceledException">By <paramref name="cancellationToken"/>.</exception>
    public async Task<GeneratedEmbeddings<Embedding<float>>> GenerateAsync(IEnumerable<string> values,
        EmbeddingGenerationOptions? options = null, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(values);
        ObjectDisposedException.ThrowIf(disposed, this);
        if (options?.Dimensions is { } dimensions && dimensions != metadata.DefaultModelDimensions)
            throw new NotSupportedException(
                $"infini: {dimensions} dimensions are asked for, but the model has {metadata.DefaultModelDimensions}");
        string[] texts = [.. values];
        foreach (string text in texts) ArgumentException.ThrowIfNullOrEmpty(text, nameof(values));

        using var session = model.CreateSession(defaults);
        var embeddings = new GeneratedEmbeddings<Embedding<float>>(texts.Length);
        long read = 0;
        foreach (string text in texts)
        {
            await working.WaitAsync(cancellationToken).ConfigureAwait(false);
            try
            {
                session.Reset();
                await session.FeedAsync(text, null, cancellationToken).ConfigureAwait(false);
            }
            finally
            {
                working.Release();
            }
            read += session.Position;
            embeddings.Add(new(Unit(session.Embedding()))
            {
                ModelId = metadata.DefaultModelId, CreatedAt = DateTimeOffset.UtcNow,
            });
        }
        embeddings.Usage = new() { InputTokenCount = read, TotalTokenCount = read };
        return embeddings;
    }

    /// <summary>Gives the <see cref="EmbeddingGeneratorMetadata"/>, the <see cref="Model"/>, or the
    /// generator.</summary>
    /// <param name="serviceType">Which of them.</param>
    /// <param name="serviceKey">None of them has one.</param>
    /// <returns>Null: none of them is that.</returns>
    public object? GetService(Type serviceType, object? serviceKey = null)
    {
        ArgumentNullException.ThrowIfNull(serviceType);
        return serviceKey is not null ? null
            : serviceType == typeof(EmbeddingGeneratorMetadata) ? metadata
            : serviceType == typeof(Model) ? model
            : serviceType.IsInstanceOfType(this) ? this : null;
    }

    /// <summary>Refuses further calls; those that run end by themselves.</summary>
    public void Dispose() => disposed = true;

    private static float[] Unit(float[] row)
    {
        double length = Math.Sqrt(row.Sum(value => (double)value * value));
        return Array.ConvertAll(row, value => length > 0 ? (float)(value / length) : value);
    }
}
