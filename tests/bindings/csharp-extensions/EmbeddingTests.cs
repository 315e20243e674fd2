using Infini;
using Infini.Extensions.AI;
using Microsoft.Extensions.AI;
using Xunit;
using static Support;

public class EmbeddingTests
{
    private static InfiniEmbeddingGenerator Generator => new(Shared, Options());

    private static double Product(Embedding<float> a, Embedding<float> b) =>
        a.Vector.ToArray().Zip(b.Vector.ToArray(), (x, y) => (double)x * y).Sum();

    [Fact]
    public async Task EqualTextsHaveEqualEmbeddingsOfUnitLength()
    {
        using var generator = Generator;
        string[] texts = ["The cat sat.", "A dog ran far away.", "The cat sat."];
        var embeddings = await generator.GenerateAsync(texts);
        Assert.Equal(3, embeddings.Count);
        Assert.All(embeddings, embedding => Assert.Equal(Shared.Width, embedding.Dimensions));
        Assert.All(embeddings, embedding => Assert.Equal(1, Product(embedding, embedding), 5));
        Assert.Equal(embeddings[0].Vector.ToArray(), embeddings[2].Vector.ToArray());
        Assert.True(Product(embeddings[0], embeddings[1]) < 0.999);
        Assert.Equal(texts.Sum(text => Shared.CountTokens(text, start: true)), embeddings.Usage!.InputTokenCount);

        using var session = Shared.CreateSession(new() { Threads = 1 });
        session.Feed(texts[1]);
        float[] row = session.Embedding();
        double length = Math.Sqrt(row.Sum(value => (double)value * value));
        Assert.Equal(row.Select(value => (float)(value / length)), embeddings[1].Vector.ToArray());
        var again = await Task.WhenAll(Enumerable.Range(0, 6).Select(_ => generator.GenerateAsync(texts)));
        Assert.All(again, one => Assert.Equal(embeddings[1].Vector.ToArray(), one[1].Vector.ToArray()));
    }

    [Fact]
    public async Task RefusesWhatItCannotDo()
    {
        using var generator = Generator;
        Assert.Empty(await generator.GenerateAsync([]));
        await Assert.ThrowsAsync<ArgumentException>(() => generator.GenerateAsync([""]));
        await Assert.ThrowsAsync<ArgumentNullException>(() => generator.GenerateAsync(["a", null!]));
        await Assert.ThrowsAsync<NotSupportedException>(() => generator.GenerateAsync(["a"],
            new() { Dimensions = Shared.Width + 1 }));
        Assert.Single(await generator.GenerateAsync(["a"], new() { Dimensions = Shared.Width }));
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => generator.GenerateAsync(["a"], null,
            new CancellationToken(true)));
        Assert.Equal(Shared.Width, generator.GetService<EmbeddingGeneratorMetadata>()!.DefaultModelDimensions);
        generator.Dispose();
        await Assert.ThrowsAsync<ObjectDisposedException>(() => generator.GenerateAsync(["a"]));
    }
}
