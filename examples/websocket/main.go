// Command websocket is the application of an example. The page at / opens a
// WebSocket to /socket, which sends each message back with the name of the user
// before it.
package main

import (
	_ "embed"
	"flag"
	"fmt"
	"log"
	"net/http"
	"time"

	"golang.org/x/net/websocket"
)

//go:embed page.html
var page []byte

func main() {
	listen := flag.String("listen", "localhost:9001", "address to listen on; only Caddy should reach it")
	flag.Parse()

	http.HandleFunc("/{$}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = w.Write(page)
	})
	http.Handle("/socket", websocket.Server{Handler: echo})

	server := &http.Server{Addr: *listen, ReadHeaderTimeout: 10 * time.Second}
	log.Fatal(server.ListenAndServe())
}

func echo(conn *websocket.Conn) {
	user := conn.Request().Header.Get("X-Remote-User") // set by Caddy, which removes what the client sends
	for {
		var text string
		if err := websocket.Message.Receive(conn, &text); err != nil {
			return
		}
		answer := fmt.Sprintf("%s: %s", user, text)
		log.Printf("%q", answer)
		if err := websocket.Message.Send(conn, answer); err != nil {
			return
		}
	}
}
