using Infini;

/// <summary>Keeps memories in a folder, each as one snapshot that the command `infini` reads too. Its version is what it holds.</summary>
internal sealed class FolderMemories : IMemoryStore
{
    private readonly string folder;
    private readonly SemaphoreSlim turn = new(1); // of this process, since locks of files are between processes
    private readonly FileStream writer; // a file that one process at a time has locked

    /// <param name="folder">Is made where it is not there.</param>
    internal FolderMemories(string folder)
    {
        Directory.CreateDirectory(this.folder = folder);
        writer = new FileStream(Path.Combine(folder, ".lock"), FileMode.OpenOrCreate, FileAccess.ReadWrite, FileShare.ReadWrite);
    }

    public bool Rereads => true;

    public Task<Dictionary<string, (long Bytes, Func<string> Beside)>> List() => Task.FromResult(
        new DirectoryInfo(folder).EnumerateFiles("*.snapshot").ToDictionary(
            file => Path.GetFileNameWithoutExtension(file.Name),
            file => (file.Exists ? file.Length : 0, new Func<string>(() => BesideOf(file.FullName)))));

    public string? Version(string name)
    {
        try
        {
            return InfiniLibrary.InspectSnapshotJson(FileOf(name));
        }
        catch (InfiniException) when (!File.Exists(FileOf(name)))
        {
            return null;
        }
    }

    public Task<(string Beside, string Version)?> Read(string name, Session session) => Alone<(string, string)?>(async () =>
    {
        if (Version(name) is not { } version) return null;
        await session.RestoreAsync(FileOf(name));
        return (InfiniLibrary.InspectSnapshot(FileOf(name)).Note, version);
    });

    public Task<string?> Write(string name, Session session, string beside, string? replaces) => Alone(async () =>
    {
        if (Version(name) != replaces) return null;
        await session.SaveAsync(FileOf(name), name: name, note: beside);
        return Version(name);
    });

    public Task Delete(string name) => Alone<object?>(() =>
    {
        File.Delete(FileOf(name));
        return Task.FromResult<object?>(null);
    });

    // Does what no other service of the folder may do meanwhile.
    private async Task<T> Alone<T>(Func<Task<T>> act)
    {
        await turn.WaitAsync();
        try
        {
#pragma warning disable CA1416 // macOS has no such locks
            while (!TryLock()) await Task.Delay(5);
            try
            {
                return await act();
            }
            finally
            {
                writer.Unlock(0, 1);
            }
        }
        finally
        {
            turn.Release();
        }
    }

    private bool TryLock()
    {
        try
        {
            writer.Lock(0, 1);
            return true;
        }
        catch (IOException)
        {
            return false; // another process has it
        }
#pragma warning restore CA1416
    }

    private static string BesideOf(string file)
    {
        try
        {
            return InfiniLibrary.InspectSnapshot(file).Note;
        }
        catch (InfiniException)
        {
            return ""; // it is damaged, or was deleted meanwhile
        }
    }

    private string FileOf(string name) => Path.Combine(folder, name + ".snapshot");
}
