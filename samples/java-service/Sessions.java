import infini.InfiniException;
import infini.Model;
import infini.Options;
import infini.Session;
import java.io.IOException;
import java.sql.SQLException;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.TreeMap;
import java.util.concurrent.TimeUnit;

/**
 * The sessions of the service, of which some are memories: sessions with a name, which are kept in a store after each
 * request where there is one, and then make room for others.
 */
final class Sessions {
  static final String MEMORY = "memory:"; // before a memory's name
  private static final int TRIES = 50; // a second in all: a memory's request may have answered and not quite ended

  private final Model model;
  private final long most;
  private final long mostMemories;
  private final MemoryStore store; // null: memories live as long as the service
  private final Map<String, Client> clients = new HashMap<>();
  private final Object opening = new Object(); // of memories
  private boolean ended;

  Sessions(Model model, long most, long mostMemories, MemoryStore store) {
    this.model = model;
    this.most = most;
    this.mostMemories = mostMemories;
    this.store = store;
  }

  /** Takes a session in, which is closed where there is no room. */
  Client add(String id, Session session) {
    return add(id, new Client(session, null));
  }

  private Client add(String id, Client client) {
    for (int tries = 0; tries < TRIES; ++tries) {
      synchronized (clients) {
        if (clients.size() < most || makeRoom(0)) {
          clients.put(id, client);
          if (ended) client.end();
          return client;
        }
        if (store == null || clients.keySet().stream().noneMatch(other -> other.startsWith(MEMORY))) break;
      }
      try {
        Thread.sleep(20);
      } catch (InterruptedException e) {
        break;
      }
    }
    client.session.close();
    throw new Refusal(429, "TOO_MANY_SESSIONS", "the service has as many sessions as it may have; delete one");
  }

  Client of(String id) {
    synchronized (clients) {
      Client client = clients.get(id);
      if (client == null) throw new Refusal(404, "NOT_FOUND", "there is no such session");
      return client;
    }
  }

  /** Ends its call and closes it. */
  void remove(String id) {
    Client client;
    synchronized (clients) {
      client = clients.remove(id);
    }
    if (client == null) return;
    client.cancel();
    client.session.close();
  }

  List<Map<String, Object>> list() {
    List<Map<String, Object>> all = new ArrayList<>();
    synchronized (clients) {
      clients.forEach((id, client) -> {
        try {
          all.add(Map.of("id", id, "position", client.session.position(), "busy", client.call != null));
        } catch (IllegalStateException e) {
          // it was deleted
        }
      });
    }
    return all;
  }

  void end() {
    synchronized (clients) {
      ended = true;
      clients.values().forEach(Client::end);
    }
  }

  private interface Ask<T> {
    T run() throws IOException, SQLException;
  }

  /** Asks the store; what fails there is told by the log. */
  private static <T> T asked(Ask<T> ask) {
    try {
      return ask.run();
    } catch (IOException | SQLException e) {
      Operators.log("error", Map.of("message", "the store failed", "error", e.toString()));
      throw new Refusal(503, "STORE_FAILED", "the store of memories failed; the service's log says why");
    }
  }

  /** The memory of that name, which is read from the store when its turn comes. */
  Client memory(String name, boolean create) {
    if (!name.matches("[A-Za-z0-9_][A-Za-z0-9._-]{0,63}"))
      throw Refusal.invalid("'" + name + "' cannot be the name of a memory: 1 to 64 of A-Z a-z 0-9 . _ -, and no dot first");
    Client client = atHand(name);
    if (client != null && (create || store == null)) return client;
    boolean stored = store != null && asked(() -> store.version(name)) != null;
    if (!stored && !create) throw new Refusal(404, "NOT_FOUND", "there is no memory of that name");
    synchronized (opening) {
      client = atHand(name);
      if (client != null) return client;
      if (!stored && memories().size() >= mostMemories)
        throw new Refusal(429, "TOO_MANY_MEMORIES", "the service has as many memories as it may have; delete one");
      return add(MEMORY + name, new Client(newSession(), store == null ? null : memory -> renew(name, memory)));
    }
  }

  private Client atHand(String name) {
    synchronized (clients) {
      Client client = clients.get(MEMORY + name);
      if (client != null) client.used = System.nanoTime();
      return client;
    }
  }

  /** Puts a memory where the store has it, which another service may have written, or deleted, since. */
  private void renew(String name, Client client) {
    if (Objects.equals(asked(() -> store.version(name)), client.version)) return;
    client.version = Client.UNKNOWN;
    MemoryStore.Kept kept = asked(() -> store.read(name, client.session));
    if (kept == null) client.session.reset();
    client.known = kept == null ? "" : kept.known();
    client.version = kept == null ? null : kept.version();
  }

  Session newSession() {
    try (Options options = new Options().set("unknown_text", "skip")) {
      return model.newSession(options);
    }
  }

  /** What the list of memories says of one. */
  Map<String, Object> describeMemory(String name, long bytes) {
    Map<String, Object> memory = new LinkedHashMap<>();
    memory.put("object", "memory");
    memory.put("id", name);
    memory.put("bytes", bytes);
    Client client;
    synchronized (clients) {
      client = clients.get(MEMORY + name);
    }
    Long position = null;
    try {
      if (client != null) position = client.session.position();
    } catch (IllegalStateException e) {
      // it was deleted
    }
    memory.put("tokens", position);
    return memory;
  }

  /** All memories, with the bytes of their snapshots. */
  Map<String, Long> memories() {
    Map<String, Long> all = new TreeMap<>(store == null ? Map.of() : asked(store::list));
    synchronized (clients) {
      for (String id : clients.keySet())
        if (id.startsWith(MEMORY)) all.putIfAbsent(id.substring(MEMORY.length()), 0L);
    }
    return all;
  }

  /** Writes a memory to the store, for who has its turn. Where that fails, the memory is what the store has. Other sessions are not
      kept. */
  void keep(String id, Client client) {
    if (store == null || !id.startsWith(MEMORY)) return;
    String name = id.substring(MEMORY.length());
    String replaces = client.version;
    client.version = Client.UNKNOWN;
    try {
      client.version = store.write(name, client.session, client.known, replaces);
    } catch (InfiniException | IOException | SQLException e) {
      Operators.log("error", Map.of("message", "a memory could not be saved", "memory", name, "error", e.toString()));
      throw new Refusal(503, "NOT_KEPT", "the memory could not be kept, and is what its store has");
    } catch (IllegalStateException e) {
      return; // it was deleted
    }
    if (client.version != null) return;
    client.version = Client.UNKNOWN;
    throw new Refusal(409, "CONFLICT", "another service wrote the memory meanwhile, and nothing of this request is kept: send it again");
  }

  /** Closes a memory, and deletes it from the store. */
  void forget(String name) {
    memory(name, false);
    remove(MEMORY + name); // then nobody saves it any more
    if (store == null) return;
    asked(() -> {
      store.delete(name);
      return null;
    });
  }

  /** Lets memories go that are stored and were not used for so many seconds; 0: none. */
  void expire(long seconds) {
    if (seconds == 0) return;
    Connection.TIMER.scheduleWithFixedDelay(() -> {
      synchronized (clients) {
        while (makeRoom(seconds)) {}
      }
    }, 250 * seconds, 250 * seconds, TimeUnit.MILLISECONDS);
  }

  /** Lets the memory go that was used the longest ago, so many seconds at least, of those that are stored and free. */
  private boolean makeRoom(long seconds) {
    if (store == null) return false;
    List<String> oldest = clients.keySet().stream().filter(id -> id.startsWith(MEMORY))
        .sorted(Comparator.comparing(id -> clients.get(id).used)).toList();
    for (String id : oldest) {
      Client client = clients.get(id);
      if (System.nanoTime() - client.used < TimeUnit.SECONDS.toNanos(seconds) || !client.takeForGood()) continue;
      clients.remove(id).session.close();
      return true;
    }
    return false;
  }
}
