import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.ObjectReader;
import java.io.File;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.ByteBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.Comparator;
import java.util.Locale;
import java.util.Properties;
import java.util.concurrent.atomic.AtomicLong;
import java.util.concurrent.atomic.AtomicReference;
import java.util.concurrent.atomic.LongAdder;
import org.apache.kafka.clients.consumer.ConsumerConfig;
import org.apache.kafka.clients.producer.ProducerConfig;
import org.apache.kafka.common.serialization.Deserializer;
import org.apache.kafka.common.serialization.Serde;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.common.serialization.Serializer;
import org.apache.kafka.common.utils.Bytes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.KeyValue;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.Topology;
import org.apache.kafka.streams.errors.StreamsUncaughtExceptionHandler.StreamThreadExceptionResponse;
import org.apache.kafka.streams.kstream.Consumed;
import org.apache.kafka.streams.kstream.EmitStrategy;
import org.apache.kafka.streams.kstream.Materialized;
import org.apache.kafka.streams.kstream.Produced;
import org.apache.kafka.streams.kstream.TimeWindows;
import org.apache.kafka.streams.kstream.Windowed;
import org.apache.kafka.streams.state.WindowStore;

/**
 * Count, sum and mean per user and 10 s, 2 s grace, final results to Kafka; two threads, RocksDB.
 *
 * <p>Arguments: bootstrap address, topic, results topic (also the application's id), number of records. Prints one JSON
 * line: the records, and the seconds from the first of them to the last.
 */
public final class Tumbling {
  private static final Duration SIZE = Duration.ofSeconds(10);
  private static final Duration GRACE = Duration.ofSeconds(2);

  private final LongAdder seen = new LongAdder();
  private final AtomicLong began = new AtomicLong();

  public static void main(String[] args) throws Exception {
    System.exit(new Tumbling().run(args[0], args[1], args[2], Long.parseLong(args[3])));
  }

  private int run(String bootstrap, String topic, String results, long records) throws Exception {
    var failure = new AtomicReference<Throwable>();
    Path state = Files.createTempDirectory("kafka-streams-");
    try (var streams = new KafkaStreams(topology(topic, results), settings(bootstrap, results, state))) {
      streams.setUncaughtExceptionHandler(
          error -> {
            failure.set(error);
            return StreamThreadExceptionResponse.SHUTDOWN_CLIENT;
          });
      streams.start();
      while (seen.sum() < records && failure.get() == null) {
        Thread.sleep(5);
      }
      double seconds = (System.nanoTime() - began.get()) / 1e9;
      streams.close();
      streams.cleanUp();
      if (failure.get() != null) {
        failure.get().printStackTrace();
        return 1;
      }
      System.out.printf(Locale.ROOT, "{\"records\": %d, \"seconds\": %.3f}%n", seen.sum(), seconds);
    } finally {
      // cleanUp leaves the empty folders of the application and of the client
      try (var left = Files.walk(state)) {
        left.sorted(Comparator.reverseOrder()).map(Path::toFile).forEach(File::delete);
      }
    }
    return 0;
  }

  private static Properties settings(String bootstrap, String application, Path state) {
    var settings = new Properties();
    settings.put(StreamsConfig.APPLICATION_ID_CONFIG, application);
    settings.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, bootstrap);
    settings.put(StreamsConfig.NUM_STREAM_THREADS_CONFIG, 2);
    settings.put(StreamsConfig.REPLICATION_FACTOR_CONFIG, 1);
    settings.put(StreamsConfig.STATE_DIR_CONFIG, state.toString());
    settings.put(StreamsConfig.STATESTORE_CACHE_MAX_BYTES_CONFIG, 256L << 20);
    settings.put(StreamsConfig.COMMIT_INTERVAL_MS_CONFIG, 1000);
    settings.put("__emit.interval.ms.kstreams.windowed.aggregation__", 100L);
    settings.put(StreamsConfig.consumerPrefix(ConsumerConfig.AUTO_OFFSET_RESET_CONFIG), "earliest");
    settings.put(StreamsConfig.consumerPrefix(ConsumerConfig.MAX_POLL_RECORDS_CONFIG), 10_000);
    settings.put(StreamsConfig.consumerPrefix(ConsumerConfig.FETCH_MIN_BYTES_CONFIG), 1 << 16);
    settings.put(StreamsConfig.producerPrefix(ProducerConfig.LINGER_MS_CONFIG), 50);
    settings.put(StreamsConfig.producerPrefix(ProducerConfig.BATCH_SIZE_CONFIG), 1 << 18);
    settings.put(StreamsConfig.producerPrefix(ProducerConfig.COMPRESSION_TYPE_CONFIG), "lz4");
    return settings;
  }

  private Topology topology(String topic, String results) {
    var builder = new StreamsBuilder();
    var events =
        Consumed.with(Serdes.String(), Event.SERDE)
            .withTimestampExtractor((record, previous) -> ((Event) record.value()).ts);
    var store =
        Materialized.<String, Total, WindowStore<Bytes, byte[]>>as("windows")
            .withRetention(SIZE.plus(GRACE))
            .withKeySerde(Serdes.String())
            .withValueSerde(Total.SERDE);
    builder.stream(topic, events)
        .peek((user, event) -> count())
        .groupByKey()
        .windowedBy(TimeWindows.ofSizeAndGrace(SIZE, GRACE))
        .emitStrategy(EmitStrategy.onWindowClose())
        .aggregate(() -> Total.NONE, (user, event, total) -> total.plus(event.amount), store)
        .toStream()
        .map((window, total) -> KeyValue.pair(window.key(), total.json(window)))
        .to(results, Produced.with(Serdes.String(), Serdes.String()));
    return builder.build();
  }

  private void count() {
    if (began.get() == 0) {
      began.compareAndSet(0, System.nanoTime());
    }
    seen.increment();
  }

  /** One record of the topic. */
  public static final class Event {
    private static final ObjectReader READER = new ObjectMapper().readerFor(Event.class);
    static final Serde<Event> SERDE = Serdes.serdeFrom(Event::write, Event::read);

    public String user;
    public double amount;
    public long ts;
    public String country;
    public boolean ok;

    private static byte[] write(String topic, Event event) {
      throw new UnsupportedOperationException("events are only read");
    }

    private static Event read(String topic, byte[] json) {
      try {
        return READER.readValue(json);
      } catch (IOException error) {
        throw new UncheckedIOException(error);
      }
    }
  }

  /** What a window has added up. */
  private record Total(long n, double sum) {
    static final Total NONE = new Total(0, 0);
    static final Serde<Total> SERDE =
        Serdes.serdeFrom((Serializer<Total>) Total::write, (Deserializer<Total>) Total::read);

    Total plus(double amount) {
      return new Total(n + 1, sum + amount);
    }

    String json(Windowed<String> window) {
      return "{\"user\":\"" + window.key() + "\",\"window_start\":" + window.window().start()
          + ",\"n\":" + n + ",\"total\":" + sum + ",\"mean\":" + sum / n + "}";
    }

    private static byte[] write(String topic, Total total) {
      return total == null ? null : ByteBuffer.allocate(16).putLong(total.n).putDouble(total.sum).array();
    }

    private static Total read(String topic, byte[] bytes) {
      if (bytes == null) {
        return null;
      }
      var buffer = ByteBuffer.wrap(bytes);
      return new Total(buffer.getLong(), buffer.getDouble());
    }
  }
}
