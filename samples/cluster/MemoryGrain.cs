using Orleans.Placement;

/// <summary>A memory in the cluster: it is on one silo, or on none.</summary>
public interface IMemoryGrain : IGrainWithStringKey
{
    /// <summary>Has the memory at hand on a silo, which the cluster chooses where it is on none.</summary>
    /// <param name="create">Whether it is made where there is none of that name.</param>
    /// <returns>Where that silo answers HTTP; null where there is no such memory.</returns>
    Task<string?> Locate(bool create);
}

/// <summary>Has a memory at hand, for as long as Orleans has the grain here. What is large, texts and snapshots, does not go
/// through it.</summary>
[ResourceOptimizedPlacement]
internal sealed class MemoryGrain(Memories memories) : Grain, IMemoryGrain
{
    private LiveMemory? live;

    /// <inheritdoc/>
    public async Task<string?> Locate(bool create)
    {
        live ??= await memories.Open(this.GetPrimaryKeyString(), create, Leave);
        if (live is null) DeactivateOnIdle();
        return live is null ? null : memories.Address;
    }

    /// <inheritdoc/>
    public override async Task OnDeactivateAsync(DeactivationReason reason, CancellationToken cancellationToken)
    {
        if (live is not null) await memories.Close(live, cancellationToken);
    }

    private void Leave() => GrainContext.Deactivate(new(DeactivationReasonCode.ApplicationRequested, "the memory leaves"));
}
