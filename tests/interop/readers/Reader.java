// Reads streams as Java's own clients do: Reader KIND (ID CODING URL)... prints each line as "ID|line", and at each
// stream's end "ID." or "ID!error". CODING is what to ask for; "-": what the client asks for by itself. KIND is
// HttpClient or URLConnection. Neither decodes by itself: what comes in gzip goes through a GZIPInputStream.

import java.io.ByteArrayOutputStream;
import java.io.InputStream;
import java.net.HttpURLConnection;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.charset.StandardCharsets;
import java.util.zip.GZIPInputStream;

public class Reader {
    private static final HttpClient CLIENT = HttpClient.newHttpClient();

    private static synchronized void say(String text) {
        byte[] line = (text + "\n").getBytes(StandardCharsets.UTF_8);
        System.out.write(line, 0, line.length);
        System.out.flush();
    }

    // By hand, since an InputStreamReader holds lines back: a GZIPInputStream always says that there is more to read.
    private static void read(String id, InputStream body, String coding) throws Exception {
        ByteArrayOutputStream line = new ByteArrayOutputStream();
        byte[] piece = new byte[8192];
        try (InputStream decoded = coding.equals("gzip") ? new GZIPInputStream(body) : body) {
            for (int size = decoded.read(piece); size >= 0; size = decoded.read(piece)) {
                for (int at = 0; at < size; at++) {
                    if (piece[at] != '\n') {
                        line.write(piece[at]);
                        continue;
                    }
                    if (line.size() > 0) say(id + "|" + line.toString(StandardCharsets.UTF_8));
                    line.reset();
                }
            }
        }
        if (line.size() > 0) say(id + "|" + line.toString(StandardCharsets.UTF_8));
    }

    private static void httpClient(String id, String coding, String url) throws Exception {
        HttpRequest.Builder request = HttpRequest.newBuilder(URI.create(url));
        if (!coding.equals("-")) request.header("Accept-Encoding", coding);
        HttpResponse<InputStream> answer = CLIENT.send(request.build(), HttpResponse.BodyHandlers.ofInputStream());
        read(id, answer.body(), answer.headers().firstValue("Content-Encoding").orElse(""));
    }

    private static void urlConnection(String id, String coding, String url) throws Exception {
        HttpURLConnection connection = (HttpURLConnection) URI.create(url).toURL().openConnection();
        if (!coding.equals("-")) connection.setRequestProperty("Accept-Encoding", coding);
        String given = connection.getHeaderField("Content-Encoding");
        read(id, connection.getInputStream(), given == null ? "" : given);
    }

    public static void main(String[] given) throws Exception {
        for (int at = 1; at + 2 < given.length; at += 3) {
            String id = given[at], coding = given[at + 1], url = given[at + 2];
            new Thread(() -> {
                try {
                    if (given[0].equals("HttpClient")) httpClient(id, coding, url);
                    else urlConnection(id, coding, url);
                    say(id + ".");
                } catch (Exception error) {
                    say(id + "!" + error);
                }
            }).start();
        }
    }
}
