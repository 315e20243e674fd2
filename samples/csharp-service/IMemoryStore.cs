using Infini;

/// <summary>Where memories are kept between the requests that name them.</summary>
internal interface IMemoryStore
{
    /// <summary>Whether a memory that is kept here may leave the machine's memory at any time, and be read again.</summary>
    bool Rereads { get; }

    /// <summary>Is told, where it says when memories leave, that there is no room for another session.</summary>
    void MakeRoom()
    {
    }

    /// <summary>The memories that are kept, by name, and the bytes of their snapshots.</summary>
    Task<Dictionary<string, long>> List();

    /// <summary>Whether a memory of that name is kept.</summary>
    bool Has(string name);

    /// <summary>Puts a session where the memory was kept.</summary>
    /// <returns>What it was kept with.</returns>
    string Read(string name, Session session);

    /// <summary>Keeps a memory.</summary>
    /// <param name="name">Its name.</param>
    /// <param name="session">Which nothing else uses meanwhile.</param>
    /// <param name="known">Is kept with it: the digest of the messages that it has read.</param>
    Task Write(string name, Session session, string known);

    /// <summary>Deletes a memory, if it is kept.</summary>
    Task Delete(string name);
}
