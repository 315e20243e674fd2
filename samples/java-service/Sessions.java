import infini.InfiniException;
import infini.Model;
import infini.Options;
import infini.Session;
import infini.Status;
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
import java.util.concurrent.locks.ReentrantReadWriteLock;
import java.util.function.Supplier;

/**
 * The sessions of the service, of which some are memories: sessions with a name, which are kept in a store after each
 * request where there is one, and then make room for others.
 */
final class Sessions {
  static final String MEMORY = "memory:"; // before a memory's name
  private static final long COUNT_AGAIN = TimeUnit.SECONDS.toNanos(10);
  private static final int TRIES = 50; // a second in all: a memory's request may have answered and not quite ended

  private final Model model;
  private final long most;
  private final long mostMemories;
  private final MemoryStore store; // null: memories live as long as the service
  private final Map<String, Client> clients = new HashMap<>();
  private final Object opening = new Object(); // of memories
  /** Is held for reading while a memory is written, and for good at the end. */
  private final ReentrantReadWriteLock keeping = new ReentrantReadWriteLock();
  private boolean ended;
  private long counted = System.nanoTime() - COUNT_AGAIN; // when the memories last were
  private int count; // of them, then

  Sessions(Model model, long most, long mostMemories, MemoryStore store) {
    this.model = model;
    this.most = most;
    this.mostMemories = mostMemories;
    this.store = store;
  }

  /** Takes a session in, which is closed where there is no room. */
  Client add(String id, Session session) {
    Client client = new Client(session, null);
    try {
      return awaitRoom(() -> tryAdd(id, client) ? client : null);
    } catch (Refusal e) {
      session.close();
      throw e;
    }
  }

  /** Tries again while it gives null, which says that there is no room, and a stored memory may make some. */
  private Client awaitRoom(Supplier<Client> attempt) {
    for (int tries = 0; tries < TRIES; ++tries) {
      Client client = attempt.get();
      if (client != null) return client;
      synchronized (clients) {
        if (store == null || clients.keySet().stream().noneMatch(other -> other.startsWith(MEMORY))) break;
      }
      try {
        Thread.sleep(20);
      } catch (InterruptedException e) {
        break;
      }
    }
    throw new Refusal(429, "TOO_MANY_SESSIONS", "the service has as many sessions as it may have; delete one");
  }

  private boolean tryAdd(String id, Client client) {
    synchronized (clients) {
      if (!hasRoom()) return false;
      clients.put(id, client);
      if (ended) client.end();
      return true;
    }
  }

  /** Whether there is room for a session, which one that may go has made where there was none. */
  private boolean hasRoom() {
    synchronized (clients) {
      return clients.size() < most || makeRoom(0);
    }
  }

  Client of(String id) {
    synchronized (clients) {
      Client client = clients.get(id);
      if (client == null || !exists(id, client)) throw new Refusal(404, "NOT_FOUND", "there is no such session");
      client.used = System.nanoTime();
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
        if (!exists(id, client)) return;
        try {
          all.add(Map.of("id", id, "position", client.session.position(), "busy", client.call != null));
        } catch (IllegalStateException e) {
          // it was deleted
        }
      });
    }
    return all;
  }

  /** The bytes of all sessions. */
  long bytes() {
    synchronized (clients) {
      return clients.values().stream().mapToLong(client -> client.bytes).sum();
    }
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
    } catch (InfiniException | IOException | SQLException e) {
      if (e instanceof InfiniException failed && failed.status() != Status.IO) throw failed;
      Operators.log("error", Map.of("message", "the store failed", "error", withoutName(e)));
      throw new Refusal(503, "STORE_FAILED", "the store of memories failed; the service's log says why");
    }
  }

  /** What an error says, without the memory's name, which is the user's own words. */
  private static String withoutName(Exception e) {
    return e.toString().replaceAll("[^/ ]+\\.snapshot", "{}.snapshot");
  }

  interface Use {
    void run(Client client, Client.Call call) throws IOException;
  }

  /** Has its turn with the memory of that name, which may be a new one where `create` is set. */
  void inTurn(String name, boolean create, Client.Call call, Use use) throws IOException {
    Client client = memory(name, create);
    try {
      client.inTurn(call, c -> {
        if (!create && !client.filled) throw noMemory();
        use.run(client, c);
      });
    } finally {
      release(client);
    }
  }

  void inTurn(String name, boolean create, Use use) throws IOException {
    try (Client.Call call = new Client.Call()) {
      inTurn(name, create, call, use);
    }
  }

  private void release(Client client) {
    synchronized (clients) {
      --client.users;
    }
  }

  private static Refusal noMemory() {
    return new Refusal(404, "NOT_FOUND", "there is no memory of that name");
  }

  /** Whether it is more than the memory that a refused request has left empty. */
  private static boolean exists(String id, Client client) {
    return !id.startsWith(MEMORY) || client.filled || client.users > 0;
  }

  static void checkName(String name) {
    if (!name.matches("[A-Za-z0-9_][A-Za-z0-9._-]{0,63}"))
      throw Refusal.invalid("'" + name + "' cannot be the name of a memory: 1 to 64 of A-Z a-z 0-9 . _ -, and no dot first");
  }

  /** The memory of that name, which is read from the store when its turn comes, and is then released. */
  private Client memory(String name, boolean create) {
    checkName(name);
    Client client = create || store == null ? atHand(name, false) : null;
    if (client != null) return client;
    boolean stored = store != null && asked(() -> store.version(name)) != null;
    if (!stored && !create) throw noMemory();
    return awaitRoom(() -> open(name, stored));
  }

  /** Makes a memory that is not at hand; null: there is no room for it now. */
  private Client open(String name, boolean stored) {
    synchronized (opening) {
      Client client = atHand(name, stored);
      if (client != null || !hasRoom()) return client;
      if (!stored && memories().size() >= mostMemories)
        throw new Refusal(429, "TOO_MANY_MEMORIES", "the service has as many memories as it may have; delete one");
      client = atHand(name, true);
      if (client != null) return client;
      client = new Client(newSession(), store == null ? null : memory -> renew(name, memory));
      client.users = 1;
      if (tryAdd(MEMORY + name, client)) return client;
      client.session.close();
      return null;
    }
  }

  /** Of those that a refused request has left empty, too, where `empty` is set. */
  private Client atHand(String name, boolean empty) {
    synchronized (clients) {
      Client client = clients.get(MEMORY + name);
      if (client == null || !empty && !exists(MEMORY + name, client)) return null;
      ++client.users;
      return client;
    }
  }

  /** Puts a memory where the store has it, which another service may have written, or deleted, since. */
  private void renew(String name, Client client) {
    if (Objects.equals(asked(() -> store.version(name)), client.version)) return;
    client.version = Client.UNKNOWN;
    MemoryStore.Kept kept = asked(() -> store.read(name, client.session));
    if (kept == null) client.session.reset();
    client.filled = kept != null;
    MemoryStore.Beside beside = kept == null ? MemoryStore.Beside.NOTHING : kept.beside();
    client.known = beside.known();
    client.note = beside.note();
    client.version = kept == null ? null : kept.version();
  }

  Session newSession() {
    try (Options options = new Options().set("unknown_text", "skip")) {
      return model.newSession(options);
    }
  }

  /** What the list of memories says of one. */
  Map<String, Object> describeMemory(String name, MemoryStore.Listed listed) {
    Map<String, Object> memory = new LinkedHashMap<>();
    memory.put("object", "memory");
    memory.put("id", name);
    memory.put("bytes", listed.bytes());
    memory.put("note", listed.note().get());
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

  /** All memories, by name. */
  Map<String, MemoryStore.Listed> memories() {
    return memories(store == null ? Map.of() : asked(store::list));
  }

  private Map<String, MemoryStore.Listed> memories(Map<String, MemoryStore.Listed> stored) {
    Map<String, MemoryStore.Listed> all = new TreeMap<>(stored);
    synchronized (clients) {
      clients.forEach((id, client) -> {
        if (id.startsWith(MEMORY) && exists(id, client))
          all.putIfAbsent(id.substring(MEMORY.length()), new MemoryStore.Listed(client.bytes, () -> client.note));
      });
    }
    return all;
  }

  /** How many memories there are, or were some seconds ago; null: the store does not say. */
  synchronized Integer count() {
    try {
      if (store != null) store.version("_"); // whether it is there
      if (store == null || System.nanoTime() - counted >= COUNT_AGAIN) {
        count = memories(store == null ? Map.of() : store.list()).size();
        counted = System.nanoTime();
      }
      return count;
    } catch (InfiniException | IOException | SQLException e) {
      return null;
    }
  }

  /** Waits until what is being written to the store is, and lets nothing be written any more. */
  void awaitKept() {
    keeping.writeLock().lock();
  }

  /** Writes a memory to the store, for who has its turn. Where that fails, the memory is what the store has. */
  void keep(String name, Client client) {
    if (store == null) {
      client.filled = true;
      return;
    }
    keeping.readLock().lock();
    try {
      write(name, client);
    } finally {
      keeping.readLock().unlock();
    }
  }

  private void write(String name, Client client) {
    String replaces = client.version;
    client.version = Client.UNKNOWN;
    try {
      client.version = store.write(name, client.session, new MemoryStore.Beside(client.known, client.note), replaces);
    } catch (InfiniException | IOException | SQLException e) {
      Operators.log("error", Map.of("message", "a memory could not be saved", "error", withoutName(e)));
      throw new Refusal(503, "NOT_KEPT", "the memory could not be kept, and is what its store has");
    } catch (IllegalStateException e) {
      return; // it was deleted
    }
    if (client.version != null) {
      client.filled = true;
      return;
    }
    client.version = Client.UNKNOWN;
    throw new Refusal(409, "CONFLICT", "another service wrote the memory meanwhile, and nothing of this request is kept: send it again");
  }

  /** Closes a memory, and deletes it from the store. */
  void forget(String name) {
    release(memory(name, false));
    remove(MEMORY + name); // then nobody saves it any more
    if (store == null) return;
    asked(() -> {
      store.delete(name);
      return null;
    });
  }

  /** Lets memories go that are stored, and closes nameless sessions, that were not used for so many seconds; 0: none. */
  void expire(long seconds) {
    if (seconds == 0) return;
    Connection.TIMER.scheduleWithFixedDelay(() -> {
      synchronized (clients) {
        while (makeRoom(seconds)) {}
      }
    }, 250 * seconds, 250 * seconds, TimeUnit.MILLISECONDS);
  }

  /** Lets the one go that was used the longest ago, so many seconds at least, of those that may. */
  private boolean makeRoom(long seconds) {
    long now = System.nanoTime();
    String id = clients.keySet().stream().filter(other -> mayGo(other, clients.get(other), seconds != 0))
        .max(Comparator.comparing(other -> now - clients.get(other).used)).orElse(null);
    if (id == null || now - clients.get(id).used < TimeUnit.SECONDS.toNanos(seconds) || !clients.get(id).takeForGood()) return false;
    clients.remove(id).session.close();
    return true;
  }

  /** Whether nobody uses it, and nothing is lost with it, or it is idle, which ends sessions without a name. */
  private boolean mayGo(String id, Client client, boolean idle) {
    return client.users == 0 && client.free() && (id.startsWith(MEMORY) ? store != null || !client.filled : idle);
  }
}
