import infini.InfiniException;
import infini.Model;
import infini.Options;
import infini.Session;
import infini.Snapshot;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Collection;
import java.util.Comparator;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeSet;
import java.util.concurrent.TimeUnit;
import java.util.stream.Stream;

/**
 * The sessions of the service, of which some are memories: sessions with a name, which are kept in a folder after each
 * request where there is one, and then make room for others.
 */
final class Sessions {
  static final String MEMORY = "memory:"; // before a memory's name
  private static final int TRIES = 50; // a second in all: a memory's request may have answered and not quite ended
  private static final String SUFFIX = ".snapshot";

  private final Model model;
  private final long most;
  private final long mostMemories;
  private final Path store; // null: memories live as long as the service
  private final Map<String, Client> clients = new HashMap<>();
  private final Object opening = new Object(); // of memories
  private boolean ended;

  Sessions(Model model, long most, long mostMemories, String store) throws IOException {
    this.model = model;
    this.most = most;
    this.mostMemories = mostMemories;
    this.store = store == null ? null : Files.createDirectories(Path.of(store));
  }

  /** Takes a session in, which is closed where there is no room. */
  Client add(String id, Session session) {
    Client client = new Client(session);
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
    session.close();
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

  /** The memory of that name, from the folder where it is not at hand. */
  Client memory(String name, boolean create) throws IOException {
    if (!name.matches("[A-Za-z0-9_][A-Za-z0-9._-]{0,63}"))
      throw Refusal.invalid("'" + name + "' cannot be the name of a memory: 1 to 64 of A-Z a-z 0-9 . _ -, and no dot first");
    synchronized (opening) {
      synchronized (clients) {
        Client client = clients.get(MEMORY + name);
        if (client != null) {
          client.used = System.nanoTime();
          return client;
        }
      }
      boolean stored = store != null && Files.exists(fileOf(name));
      if (!stored && !create) throw new Refusal(404, "NOT_FOUND", "there is no memory of that name");
      if (!stored && memories().size() >= mostMemories)
        throw new Refusal(429, "TOO_MANY_MEMORIES", "the service has as many memories as it may have; delete one");
      Session session = newSession();
      try {
        if (stored) session.restore(fileOf(name), null);
        String known = stored ? Snapshot.inspect(fileOf(name), false).note() : "";
        Client client = add(MEMORY + name, session);
        client.known = known;
        return client;
      } catch (RuntimeException e) {
        session.close();
        throw e;
      }
    }
  }

  Session newSession() {
    try (Options options = new Options().set("unknown_text", "skip")) {
      return model.newSession(options);
    }
  }

  /** What the list of memories says of one. */
  Map<String, Object> describeMemory(String name) throws IOException {
    Map<String, Object> memory = new LinkedHashMap<>();
    memory.put("object", "memory");
    memory.put("id", name);
    memory.put("bytes", store != null && Files.exists(fileOf(name)) ? Files.size(fileOf(name)) : 0);
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

  Collection<String> memories() throws IOException {
    TreeSet<String> names = new TreeSet<>();
    synchronized (clients) {
      for (String id : clients.keySet())
        if (id.startsWith(MEMORY)) names.add(id.substring(MEMORY.length()));
    }
    if (store == null) return names;
    try (Stream<Path> files = Files.list(store)) {
      files.map(file -> file.getFileName().toString()).filter(file -> file.endsWith(SUFFIX))
          .forEach(file -> names.add(file.substring(0, file.length() - SUFFIX.length())));
    }
    return names;
  }

  /** Writes a memory to the folder, for who has its turn. Other sessions are not kept. */
  void keep(String id, Client client) {
    if (store == null || !id.startsWith(MEMORY)) return;
    String name = id.substring(MEMORY.length());
    try {
      client.session.save(fileOf(name), false, name, client.known, null);
    } catch (InfiniException e) {
      Operators.log("error", Map.of("message", "a memory could not be saved", "memory", name, "error", e.getMessage()));
    } catch (IllegalStateException e) {
      // it was deleted
    }
  }

  /** Closes a memory, and deletes it from the folder. */
  void forget(String name) throws IOException {
    memory(name, false);
    remove(MEMORY + name); // then nobody saves it any more
    if (store != null) Files.deleteIfExists(fileOf(name));
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

  private Path fileOf(String name) {
    return store.resolve(name + SUFFIX);
  }
}
