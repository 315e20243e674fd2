import infini.InfiniException;
import java.util.Map;

/** An answer other than success. */
final class Refusal extends RuntimeException {
  private static final long serialVersionUID = 1L;
  final int code;
  final String name;

  Refusal(int code, String name, String message) {
    super(message, null, false, false);
    this.code = code;
    this.name = name;
  }

  static Refusal invalid(String message) {
    return new Refusal(400, "INVALID_ARGUMENT", message);
  }

  static Refusal ending() {
    return new Refusal(503, "ENDING", "the service is about to end; try again");
  }

  static Refusal left() {
    return new Refusal(409, "CANCELLED", "the client has left");
  }

  static Refusal wrongMethod() {
    return new Refusal(405, "METHOD_NOT_ALLOWED", "the path has no such method");
  }

  static Refusal noPath() {
    return new Refusal(404, "NOT_FOUND", "there is no such path");
  }

  static Refusal of(Throwable e) {
    if (e instanceof Refusal refusal) return refusal;
    if (e instanceof IllegalArgumentException) return invalid(e.getMessage());
    if (e instanceof OutOfMemoryError) return new Refusal(503, "OUT_OF_MEMORY", "the service has no memory for this; try again later");
    if (!(e instanceof InfiniException failed)) {
      Operators.log("error", Map.of("message", "a request failed", "error", e.toString()));
      return new Refusal(500, "INTERNAL", "the service failed; its log says why");
    }
    int code = switch (failed.status()) {
      case INVALID_ARGUMENT, UNKNOWN_OPTION, UNSUPPORTED -> 400;
      case STATE, CANCELLED -> 409;
      case MODEL_MISMATCH, VERSION, CHECKSUM, FORMAT, TRUNCATED -> 422;
      case OUT_OF_MEMORY -> 503;
      default -> 500;
    };
    return new Refusal(code, failed.status().name(), failed.getMessage());
  }

  Map<String, String> body() {
    return Map.of("error", name, "message", getMessage());
  }
}
