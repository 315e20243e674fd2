/**
 * Runs and trains Infini-attention language models: they read a stream of any length in fixed memory.
 *
 * <pre>{@code
 * try (Model model = Model.open(Path.of("model.gguf"));
 *      Session session = model.newSession()) {
 *   session.feed("Once upon a time");
 *   session.generate().forEach(System.out::print);
 * }
 * }</pre>
 *
 * <p><b>Threads.</b> A {@link infini.Model} may be used by any number of threads at once. A {@link infini.Session} is one
 * stream; it may be called from any thread, and calls take turns, as on a {@link infini.Trainer}. Long calls hear their
 * {@link infini.Task}, and the interruption of their thread, within a chunk or a token. No lock of this package
 * is a monitor, so virtual threads wait for their turn without holding a carrier.
 *
 * <p><b>Lifetime.</b> Everything that holds native memory is {@link java.lang.AutoCloseable}. {@code close} may be called
 * at any time, from any thread and more than once: a call that is running is cancelled, the last one to leave frees the
 * memory, and later calls throw {@link java.lang.IllegalStateException}. What is never closed is freed after the garbage
 * collector has found it.
 *
 * <p><b>Errors</b> of the library are {@link infini.InfiniException}s with a {@link infini.Status} and a message that says
 * what failed, where and what to do; {@link infini.CancelledException} and {@link infini.FileException} are two of them.
 * {@link java.lang.IllegalArgumentException} tells of a string that UTF-8 or C cannot
 * hold.
 */
package infini;
