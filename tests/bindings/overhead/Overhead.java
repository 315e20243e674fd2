import infini.Model;
import infini.Options;
import infini.Session;
import java.nio.file.Path;

/** Prints how many tokens a second stories260K generates, as overhead.c does. */
class Overhead {
  public static void main(String[] args) {
    try (Options computing = new Options().set("compute", "f32").set("threads", 1);
         Options options = new Options().set("threads", 1).set("temperature", 0).set("max_tokens", 200);
         Model model = Model.open(Path.of(args[0]), computing); Session session = model.newSession(options)) {
      double best = 0;
      for (long begin = System.nanoTime(); System.nanoTime() - begin < 1e9 * Double.parseDouble(args[1]);) {
        session.reset();
        session.feed("Once upon a time");
        long before = session.position();
        long round = System.nanoTime();
        while (session.nextText() != null) continue;
        round = System.nanoTime() - round;
        best = Math.max(best, 1e9 * (session.position() - before) / round);
      }
      System.out.printf("%.0f%n", best);
    }
  }
}
