// Reads streams with Go's net/http: reader KIND (ID CODING URL)... prints each line as "ID|line", and at each stream's
// end "ID." or "ID!error". CODING is what to ask for; "-": what the client asks for by itself.
package main

import (
	"bufio"
	"fmt"
	"net/http"
	"os"
	"sync"
)

var printing sync.Mutex

func say(id, what, text string) {
	printing.Lock()
	defer printing.Unlock()
	fmt.Printf("%s%s%s\n", id, what, text)
}

func read(id, coding, url string) error {
	request, err := http.NewRequest("GET", url, nil)
	if err != nil {
		return err
	}
	if coding != "-" {
		request.Header.Set("Accept-Encoding", coding)
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	lines := bufio.NewScanner(answer.Body)
	lines.Buffer(nil, 1<<26)
	for lines.Scan() {
		if len(lines.Bytes()) > 0 {
			say(id, "|", lines.Text())
		}
	}
	return lines.Err()
}

func main() {
	var reading sync.WaitGroup
	for at := 2; at+2 < len(os.Args); at += 3 {
		id, coding, url := os.Args[at], os.Args[at+1], os.Args[at+2]
		reading.Add(1)
		go func() {
			defer reading.Done()
			if err := read(id, coding, url); err != nil {
				say(id, "!", err.Error())
			} else {
				say(id, ".", "")
			}
		}()
	}
	reading.Wait()
}
