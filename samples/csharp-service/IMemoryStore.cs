using Infini;

/// <summary>Where memories are kept between the requests that name them. Several services may share one: who writes says which
/// version the writing goes on from, so that nobody's words are lost silently.</summary>
internal interface IMemoryStore
{
    /// <summary>Whether a memory that is kept here may leave the machine's memory at any time, and be read again.</summary>
    bool Rereads { get; }

    /// <summary>Is told, where it says when memories leave, that there is no room for another session.</summary>
    void MakeRoom()
    {
    }

    /// <summary>The memories that are kept, by name: the bytes of their snapshots, and what is beside these, for which a
    /// file may have to be read.</summary>
    Task<Dictionary<string, (long Bytes, Func<string> Beside)>> List();

    /// <summary>The version of a memory that is kept; null: none is.</summary>
    string? Version(string name);

    /// <summary>Puts a session where the memory was kept.</summary>
    /// <returns>What is beside its snapshot, and its version; null: none is kept, and the session is untouched.</returns>
    Task<(string Beside, string Version)?> Read(string name, Session session);

    /// <summary>Keeps a memory.</summary>
    /// <param name="name">Its name.</param>
    /// <param name="session">Which nothing else uses meanwhile.</param>
    /// <param name="beside">Is kept beside its snapshot: <see cref="Client.Beside"/>.</param>
    /// <param name="replaces">The version that it goes on from; null: none was kept.</param>
    /// <returns>The new version; null: another is kept, and nothing was written.</returns>
    Task<string?> Write(string name, Session session, string beside, string? replaces);

    /// <summary>Deletes a memory, if it is kept.</summary>
    Task Delete(string name);
}
