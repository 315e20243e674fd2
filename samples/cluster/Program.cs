// One silo of a cluster whose memories outlive any of its machines; samples/cluster/README.md describes it.
//   INFINI_TOKEN=secret INFINI_POSTGRES="Host=db;Database=infini" dotnet run -- MODEL.gguf [HTTP ADDRESS [SILO ADDRESS]]
using System.Net;
using Infini;
using Npgsql;
using Orleans.Configuration;

var settings = new Settings();
if (args.Length < 1 || settings.List("INFINI_TOKEN").Length == 0 || settings.Text("INFINI_POSTGRES") is not { } connection)
{
    Console.Error.WriteLine("usage: INFINI_TOKEN=secret INFINI_POSTGRES=\"Host=...\" dotnet run -- MODEL.gguf [HTTP ADDRESS [SILO ADDRESS]]");
    return 1;
}
string http = args.Length > 1 ? args[1] : "127.0.0.1:8080";
var endpoint = IPEndPoint.Parse(args.Length > 2 ? args[2] : "127.0.0.1:11111");
TimeSpan idle = settings.Seconds("INFINI_IDLE_SECONDS", 600) is { Ticks: > 0 } given ? given : TimeSpan.FromDays(30), probe = settings.Seconds("INFINI_PROBE_SECONDS", 2),
    patience = settings.Seconds("INFINI_SHUTDOWN_SECONDS", 20), keep = TimeSpan.FromSeconds(5); // what is cut off then

using var model = Service.Open(args[0]);
await using var source = NpgsqlDataSource.Create(connection);
var database = new Database(source);
await database.MakeTables();
var memories = new Memories(database, http, settings.Number("INFINI_UNSAVED", 1 << 16));
using var front = new Front(model, settings, memories, idle, patience);

var builder = WebApplication.CreateSlimBuilder();
builder.Services.Configure<HostOptions>(options => options.ServicesStopConcurrently = true); // memories that nobody uses leave while others still write
// Of calls that fail while silos come and go, and are repeated, nothing is logged; of silos it is.
builder.Logging.AddFilter("Orleans", LogLevel.Critical).AddFilter("Polly", LogLevel.None)
    .AddFilter("Orleans.Runtime.MembershipService", LogLevel.Warning);
builder.Services.AddSingleton(memories).AddSingleton(database);
builder.UseOrleans(silo =>
{
    silo.ConfigureEndpoints(endpoint.Address, endpoint.Port, gatewayPort: 0);
    silo.Services.AddSingleton<IMembershipTable, Membership>();
    silo.Configure<ClusterOptions>(options => options.ClusterId = options.ServiceId = "infini");
    silo.Configure<ClusterMembershipOptions>(options =>
    {
        options.ProbeTimeout = probe;
        options.NumMissedProbesLimit = 2;
        options.TableRefreshTimeout = options.IAmAliveTablePublishTimeout = TimeSpan.FromSeconds(10);
    });
    silo.Configure<GrainCollectionOptions>(options =>
    {
        options.CollectionQuantum = TimeSpan.FromSeconds(Math.Clamp(idle.TotalSeconds / 2, 1, 60));
        options.CollectionAge = idle;
        options.DeactivationTimeout = patience + keep; // with the requests of a memory that leaves
        options.EnableActivationSheddingOnMemoryPressure = true;
    });
#pragma warning disable ORLEANSEXP002 // its interface may change
    silo.AddActivationRebalancer();
#pragma warning restore ORLEANSEXP002
});
await front.Run(builder, http, patience + keep);
return 0;
