using Infini;
using Xunit;
using static Support;

/// <summary>stories260K learns to use its memory, for a few steps.</summary>
public sealed class AdaptationTests : IDisposable
{
    private readonly string folder = Directory.CreateTempSubdirectory().FullName;

    public void Dispose() => Directory.Delete(folder, true);

    private static string Settings(string more = "") =>
        $$"""{"texts": ["{{Source}}/samples/texts/wuthering_heights.txt"], "steps": 4, "segments": 4, "find_sequences": 1{{more}}}""";

    [Fact]
    public async Task AdaptsAPlainModel()
    {
        string path = Path.Combine(folder, "adapted.gguf");
        Assert.Contains("\"name\":\"texts\"", Adaptation.SettingsJson());
        using (var adaptation = Adaptation.Open(Stories, Settings(), Exact))
        {
            Assert.Equal("{}", adaptation.ReportJson());
            Fails(Status.State, "not adapted", () => adaptation.Write(path));
            Assert.True(adaptation.Step());
            Assert.StartsWith("{\"phase\":\"find\"", adaptation.ReportJson());
            await adaptation.RunAsync();
            Assert.False(adaptation.Step());
            Assert.Contains("\"complete\":true", adaptation.InfoJson());
            adaptation.Write(path);
        }
        using var adapted = Model.Open(path);
        Assert.Equal("true", adapted.Info("trained_memory"));
    }

    [Fact]
    public void GoesOnFromWhatWasKept()
    {
        string settings = Settings($", \"checkpoint\": \"{folder}/kept\"");
        using (var adaptation = Adaptation.Open(Stories, settings, Exact))
        {
            for (int step = 0; step < 4; ++step) Assert.True(adaptation.Step());
            adaptation.Save();
        }
        using (var adaptation = Adaptation.Open(Stories, settings, Exact))
        {
            Assert.True(adaptation.Step());
            Assert.StartsWith("{\"step\":3,", adaptation.ReportJson());
            adaptation.Discard();
        }
        Assert.False(File.Exists(Path.Combine(folder, "kept.json")));
        Fails(Status.InvalidArgument, "step", () => Adaptation.Open(Stories, Settings(", \"step\": 1")));
    }
}
