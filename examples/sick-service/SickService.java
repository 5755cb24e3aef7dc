import java.io.BufferedInputStream;
import java.io.IOException;
import java.io.InputStream;
import java.net.InetAddress;
import java.net.ServerSocket;
import java.net.Socket;
import java.net.SocketTimeoutException;
import java.net.URLDecoder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.util.Arrays;
import java.util.HashMap;
import java.util.Map;
import java.util.Queue;
import java.util.SplittableRandom;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.Executors;
import java.util.concurrent.Semaphore;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/**
 * A small order service that falls ill on request: every endpoint but {@code /health} is a way in
 * which real JVM services get sick, so that whatever watches one can be tried against all of them.
 * It needs the module java.base only, HTTP server included, so that it runs on the barest JRE.
 */
public final class SickService {
    private static final String USAGE =
        "usage: SickService [--port=8080] [--bind=0.0.0.0] [--heap=64m] [--shutdown=0.5s] [--start-delay=0s]";
    private static final String HELP = String.join("\n",
        "sick-service: a JVM service that falls ill on request (GET or POST)",
        "  /health             200 {\"status\":\"UP\"} or 503 {\"status\":\"DOWN\"}",
        "  /break              /health answers 503 from now on",
        "  /heal               /health answers 200 again",
        "  /slow?time=2s       is answered after that time",
        "  /hang               no request is answered from now on; no CPU is used",
        "  /spin               one thread burns a CPU and hardly ever reaches a safepoint",
        "  /deadlock           threads transfer-a and transfer-b deadlock on two monitors",
        "  /leak?rate=64m      thread leaker retains so much a second until OutOfMemoryError",
        "  /exit?code=3        System.exit: the shutdown hook runs",
        "  /halt?code=3        Runtime.halt: no shutdown hook runs",
        "  /crash              a real SIGSEGV in native code",
        "  /threads?count=100  starts so many parked threads",
        "  /fds?count=100      opens so many file descriptors");

    private static final Map<String, Long> TIME_UNITS = Map.of("ms", 1L, "s", 1_000L, "m", 60_000L);
    private static final Map<String, Long> SIZE_UNITS =
        Map.of("", 1L, "k", 1L << 10, "m", 1L << 20, "g", 1L << 30);
    private static final int WORKERS = 8;
    private static final int READ_TIMEOUT_MILLIS = 2_000;
    private static final int MAX_REQUEST_BYTES = 64 << 10;
    private static final int LEAK_CHUNK_BYTES = 64 << 10;

    // What must stay reachable is static: a heap dump then shows a plain path from this class to it.
    private static final Map<Long, Order> ORDERS = new HashMap<>();
    private static final Queue<byte[]> LEAKED_REPORTS = new ConcurrentLinkedQueue<>();
    private static final Queue<InputStream> OPEN_FILES = new ConcurrentLinkedQueue<>();
    /** Plays a pool of connections that nobody gives back: who asks it for one waits for ever. */
    private static final Semaphore EXHAUSTED_POOL = new Semaphore(0);
    private static volatile boolean healthy = true;
    private static volatile boolean hanging;

    public static void main(String[] args) throws IOException {
        try {
            String all = String.join(" ", args);
            require(all.matches("(--(port|bind|heap|shutdown|start-delay)=\\S+ ?)*"), "bad options: " + all);
            run(new Parameters(args));
        } catch (IllegalArgumentException e) {
            System.err.println("sick-service: " + e.getMessage() + "\n" + USAGE);
            System.exit(2);
        }
    }

    private static void run(Parameters options) throws IOException {
        long heapBytes = options.amount("--heap", "64m", SIZE_UNITS);
        long shutdownMillis = options.amount("--shutdown", "0.5s", TIME_UNITS);
        int port = Integer.parseInt(options.text("--port", "8080"));
        InetAddress address = InetAddress.getByName(options.text("--bind", "0.0.0.0"));
        pause(options.amount("--start-delay", "0s", TIME_UNITS));
        long liveBytes = takeOrders(heapBytes);
        AtomicInteger number = new AtomicInteger();
        var workers = Executors.newFixedThreadPool(WORKERS,
            work -> new Thread(work, "http-" + number.incrementAndGet()));
        try (ServerSocket server = new ServerSocket(port, 128, address)) {
            Thread hook = new Thread(() -> shutDownSlowly(shutdownMillis), "shutdown-hook");
            Runtime.getRuntime().addShutdownHook(hook);
            System.out.println("sick-service: ready on port " + server.getLocalPort() + ", live heap "
                + Math.round(liveBytes / 1048576.0) + " MiB, pid " + ProcessHandle.current().pid());
            for (;;) {
                try {
                    Socket socket = server.accept();
                    workers.execute(() -> serve(socket));
                } catch (IOException | OutOfMemoryError e) {
                    // No descriptor left (/fds) or no heap (/leak): a service that is merely sick
                    // goes on listening, and does not turn the lack into a busy loop either.
                    pause(100);
                }
            }
        }
    }

    /** Prints constants only, as it must also work when the heap is full. */
    private static void shutDownSlowly(long millis) {
        System.out.println("sick-service: shutdown hook begins");
        pause(millis);
        System.out.println("sick-service: shutdown hook ends");
    }

    private static void pause(long millis) {
        try {
            Thread.sleep(millis);
        } catch (InterruptedException e) {
            throw new IllegalStateException("nobody interrupts here", e);
        }
    }

    private static void require(boolean condition, String otherwise) {
        if (!condition) {
            throw new IllegalArgumentException(otherwise);
        }
    }

    // ---- HTTP: one request a connection ---------------------------------------------------------

    /** Whatever goes wrong here costs the request, not the worker. */
    private static void serve(Socket connection) {
        try (Socket socket = connection) {
            socket.setSoTimeout(READ_TIMEOUT_MILLIS);
            InputStream in = new BufferedInputStream(socket.getInputStream());
            byte[] response;
            try {
                String[] pathAndQuery = readTarget(in).split("[?&]");
                if (hanging) {
                    EXHAUSTED_POOL.acquireUninterruptibly();
                }
                response = respond(pathAndQuery[0], new Parameters(pathAndQuery));
            } catch (IllegalArgumentException e) {
                response = answer("400 Bad Request", "bad request: " + e.getMessage());
            } catch (SocketTimeoutException e) {
                response = answer("408 Request Timeout", "the request did not arrive in time");
            } catch (IOException | RuntimeException | OutOfMemoryError e) {
                response = answer("500 Internal Server Error", e.toString());
            }
            socket.getOutputStream().write(response);
            // Closing over what the client still sends, such as a POST's body, would reset the answer away.
            socket.shutdownOutput();
            for (int drained = 0; drained < MAX_REQUEST_BYTES && in.read() >= 0; drained++) { }
        } catch (IOException | OutOfMemoryError e) {
            // The client left or was too slow, or no memory is left even to say so: just hang up.
        }
    }

    /** Reads a request's head and returns its target. Headers are read over, as none matters here. */
    private static String readTarget(InputStream in) throws IOException {
        StringBuilder head = new StringBuilder();
        for (int newlines = 0; newlines < 2; ) {
            int b = in.read();
            require(b >= 0 && head.length() < MAX_REQUEST_BYTES, "the head ends early or is too long");
            head.append((char) b);
            newlines = b == '\n' ? newlines + 1 : b == '\r' ? newlines : 0;
        }
        String requestLine = head.toString().split("\r?\n", 2)[0];
        Matcher matcher = Pattern.compile("(?:GET|POST) (/\\S*) HTTP/1\\.[01]").matcher(requestLine);
        require(matcher.matches(), "not GET or POST, a path and HTTP/1.1");
        return matcher.group(1);
    }

    private static byte[] respond(String path, Parameters query) throws IOException {
        int code = Integer.parseInt(query.text("code", "3"));
        int count = Integer.parseInt(query.text("count", "100"));
        long rate = query.amount("rate", "64m", SIZE_UNITS);
        switch (path) {
            case "/":
                return answer("200 OK", HELP);
            case "/health":
                return healthy ? answer("200 OK", "{\"status\":\"UP\"}")
                    : answer("503 Service Unavailable", "{\"status\":\"DOWN\"}");
            case "/break":
            case "/heal":
                healthy = path.equals("/heal");
                return done("health is " + (healthy ? "UP" : "DOWN"));
            case "/slow":
                System.out.println("sick-service: slow request");
                pause(query.amount("time", "2s", TIME_UNITS));
                return done("that took its time");
            case "/hang":
                hanging = true;
                return done("every request hangs from now on");
            case "/spin":
                start("spinner", SickService::spin);
                return done("thread spinner spins");
            case "/deadlock":
                deadlock();
                return done("threads transfer-a and transfer-b are deadlocked");
            case "/leak":
                start("leaker", () -> leak(rate));
                return done("thread leaker leaks " + rate + " bytes a second");
            case "/exit":
                start("exit", () -> System.exit(code));
                return done("exit " + code);
            case "/halt":
                start("halt", () -> Runtime.getRuntime().halt(code));
                return done("halt " + code);
            case "/crash":
                return answer("501 Not Implemented", "cannot crash: " + crash());
            case "/threads":
                for (int i = 1; i <= count; i++) {
                    start("parked-" + i, EXHAUSTED_POOL::acquireUninterruptibly);
                }
                return done(count + " more threads are parked");
            case "/fds":
                openFiles(count);
                return done(count + " more files are open");
            default:
                return answer("404 Not Found", "no such endpoint, see /");
        }
    }

    private static byte[] done(String what) {
        System.out.println("sick-service: " + what);
        return answer("200 OK", what);
    }

    private static byte[] answer(String status, String text) {
        String type = text.startsWith("{") ? "application/json" : "text/plain; charset=utf-8";
        int length = text.getBytes(StandardCharsets.UTF_8).length + 1;
        return ("HTTP/1.1 " + status + "\r\nContent-Type: " + type + "\r\nContent-Length: " + length
            + "\r\nConnection: close\r\n\r\n" + text + "\n").getBytes(StandardCharsets.UTF_8);
    }

    // ---- Sicknesses -----------------------------------------------------------------------------

    /** Begins a moment later, so that whoever asked for it has the answer by then. */
    private static Thread start(String name, Runnable sickness) {
        Thread thread = new Thread(() -> {
            pause(100);
            sickness.run();
        }, name);
        thread.setDaemon(true);
        thread.start();
        return thread;
    }

    /**
     * Burns a CPU in a counted loop. In such a loop the JIT leaves no safepoint poll (with the Serial
     * and Parallel collectors) or one in 1,000 rounds (with G1 and ZGC), and a round here is a copy of
     * megabytes, which has none either. So the next GC or thread dump waits, and all threads with it.
     */
    private static void spin() {
        byte[] buffer = new byte[(int) Math.min(64 << 20, Runtime.getRuntime().maxMemory() / 8)];
        for (int i = 0; i < 20_000; i++) {
            copyWithin(buffer, 8, 100); // cheap rounds, for C2 to compile the loop before it matters
        }
        for (;;) {
            copyWithin(buffer, buffer.length - 8, Integer.MAX_VALUE);
        }
    }

    private static void copyWithin(byte[] buffer, int length, int rounds) {
        for (int i = 0; i < rounds; i++) {
            System.arraycopy(buffer, 0, buffer, 8, length);
        }
    }

    /** Returns only once it has happened, so that whoever asked for it can look for it at once. */
    private static void deadlock() {
        var a = new Account();
        var b = new Account();
        var bothHoldOne = new CountDownLatch(2);
        Thread first = start("transfer-a", () -> a.transferTo(b, 100, bothHoldOne));
        Thread second = start("transfer-b", () -> b.transferTo(a, 200, bothHoldOne));
        while (first.getState() != Thread.State.BLOCKED || second.getState() != Thread.State.BLOCKED) {
            pause(1);
        }
    }

    private static final class Account {
        private long balance = 1_000;

        synchronized void transferTo(Account other, long amount, CountDownLatch bothHoldOne) {
            bothHoldOne.countDown();
            while (bothHoldOne.getCount() > 0) {
                Thread.onSpinWait(); // makes the unlucky timing a certain one
            }
            synchronized (other) {
                balance -= amount;
                other.balance += amount;
            }
        }
    }

    /**
     * Ends by OutOfMemoryError, left to the JVM to print. What is leaked stays, and the heap is as good
     * as full: only the template dies with the thread, as without any room for its own small needs a
     * JVM can neither print the error nor begin its shutdown.
     */
    private static void leak(long bytesPerSecond) {
        byte[] template = new byte[2 << 20];
        long start = System.nanoTime();
        for (double leaked = 0; ; leaked += LEAK_CHUNK_BYTES) {
            LEAKED_REPORTS.add(Arrays.copyOf(template, LEAK_CHUNK_BYTES));
            double secondsAhead = leaked / bytesPerSecond - (System.nanoTime() - start) / 1e9;
            pause(Math.max(0, (long) (secondsAhead * 1_000)));
        }
    }

    /** Writes to address 0 through sun.misc.Unsafe. Returns only if it cannot, and says why not. */
    private static String crash() {
        try {
            Class<?> unsafe = Class.forName("sun.misc.Unsafe"); // a JRE may lack its module
            var instance = unsafe.getDeclaredField("theUnsafe");
            instance.setAccessible(true);
            unsafe.getMethod("putAddress", long.class, long.class).invoke(instance.get(null), 0L, 0L);
            return "this JVM lets one write to address 0";
        } catch (ReflectiveOperationException e) {
            return String.valueOf(e.getCause() == null ? e : e.getCause()); // JDK 26 and later refuse
        }
    }

    private static void openFiles(int count) throws IOException {
        var file = Files.createTempFile("sick-service-", ".tmp");
        try {
            for (int i = 0; i < count; i++) {
                OPEN_FILES.add(Files.newInputStream(file));
            }
        } finally {
            Files.delete(file); // its descriptors stay open, and even a crash leaves no litter
        }
    }

    /**
     * Takes orders until they hold about as many bytes as asked for, and returns how many: counted
     * with the object sizes of a 64-bit HotSpot with compressed references (a heap below 32 GiB).
     */
    private static long takeOrders(long targetBytes) {
        SplittableRandom random = new SplittableRandom(42);
        // Varied text, as invoices are: a dump of them shrinks neither to nothing nor not at all.
        String numbers = Arrays.toString(random.ints(40_000, 0, 1_000_000).toArray());
        byte[] text = numbers.getBytes(StandardCharsets.US_ASCII);
        long bytes = 0;
        for (long id = 0; bytes < targetBytes; id++) {
            int start = random.nextInt(text.length / 2);
            int end = start + random.nextInt(512, 3_584);
            Order order = new Order(id, Arrays.copyOfRange(text, start, end));
            ORDERS.put(id, order);
            bytes += 462 + order.invoice.length + 80 * order.quantityBySku.size();
        }
        return bytes;
    }

    private static final class Customer {
        final String name;
        final String email;

        Customer(long id) {
            name = "Customer number " + id;
            email = "customer" + id + "@example.com";
        }
    }

    private static final class Order {
        final String reference;
        final Customer customer;
        final byte[] invoice;
        final Map<String, Integer> quantityBySku = new HashMap<>();

        Order(long id, byte[] invoice) {
            this.reference = "ORD-" + id;
            this.customer = new Customer(id / 10);
            this.invoice = invoice;
            for (int i = 0; i <= id % 4; i++) {
                quantityBySku.put("SKU-" + (id * 7 + i) % 100_000, i + 1);
            }
        }
    }

    /** Pairs of name=value with defaults, as both the command line and a query string have them. */
    private static final class Parameters {
        private final Map<String, String> values = new HashMap<>();

        Parameters(String[] pairs) {
            for (String pair : pairs) {
                String[] nameAndValue = pair.split("=", 2);
                if (nameAndValue.length == 2) {
                    values.put(nameAndValue[0], URLDecoder.decode(nameAndValue[1], StandardCharsets.UTF_8));
                }
            }
        }

        String text(String name, String fallback) {
            return values.getOrDefault(name, fallback);
        }

        long amount(String name, String fallback, Map<String, Long> units) {
            String text = text(name, fallback);
            Matcher amount = Pattern.compile("(\\d{1,9}(?:\\.\\d{1,9})?)([a-z]*)").matcher(text);
            require(amount.matches() && units.containsKey(amount.group(2)),
                name + " must be something like " + fallback + ": " + text);
            return Math.round(Double.parseDouble(amount.group(1)) * units.get(amount.group(2)));
        }
    }
}
