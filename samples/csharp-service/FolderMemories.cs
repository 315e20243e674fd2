using Infini;

/// <summary>Keeps memories in a folder, each as one snapshot that the command `infini` reads too.</summary>
internal sealed class FolderMemories : IMemoryStore
{
    private readonly string folder;

    /// <param name="folder">Is made where it is not there.</param>
    internal FolderMemories(string folder) => Directory.CreateDirectory(this.folder = folder);

    public bool Rereads => true;

    public Task<Dictionary<string, long>> List() => Task.FromResult(new DirectoryInfo(folder).EnumerateFiles("*.snapshot")
        .ToDictionary(file => Path.GetFileNameWithoutExtension(file.Name), file => file.Exists ? file.Length : 0));

    public bool Has(string name) => File.Exists(FileOf(name));

    public string Read(string name, Session session)
    {
        session.Restore(FileOf(name));
        return InfiniLibrary.InspectSnapshot(FileOf(name)).Note;
    }

    public Task Write(string name, Session session, string known) => session.SaveAsync(FileOf(name), name: name, note: known);

    public Task Delete(string name)
    {
        File.Delete(FileOf(name));
        return Task.CompletedTask;
    }

    private string FileOf(string name) => Path.Combine(folder, name + ".snapshot");
}
