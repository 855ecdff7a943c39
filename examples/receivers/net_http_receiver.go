// A receiver with Go's net/http: stores each message once, responds at once, handles messages one after the other, and
// compares with Sendoff every night.
//
//	go mod init receiver && go get github.com/mattn/go-sqlite3
//	SECRET=whsec_… PORT=9000 go run net_http_receiver.go
//
// DATABASE is the file of the queue. The nightly comparison needs SENDOFF_URL, SENDOFF_TOKEN (a token for one
// application: `sendoff token --app app_…`), APPLICATION and ENDPOINT.
package main

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"database/sql"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	_ "github.com/mattn/go-sqlite3"
)

const (
	maxBody   = 1 << 20 // bytes
	maxIDs    = 10_000  // per comparison
	tolerance = 5 * time.Minute
)

const schema = `
CREATE TABLE IF NOT EXISTS inbox (
  position INTEGER PRIMARY KEY, -- the order of the queue
  id TEXT NOT NULL UNIQUE, -- webhook-id; duplicates have the same one
  payload TEXT NOT NULL,
  received_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%SZ', 'now')),
  status TEXT NOT NULL DEFAULT 'waiting', -- then done or failed
  error TEXT);
CREATE INDEX IF NOT EXISTS inbox_waiting ON inbox (position) WHERE status = 'waiting';
CREATE TABLE IF NOT EXISTS invoice (
  id TEXT PRIMARY KEY NOT NULL, version INTEGER NOT NULL, state TEXT NOT NULL, changes INTEGER NOT NULL);`

var (
	db      *sql.DB
	key     []byte
	arrived = make(chan struct{}, 1)
)

func main() {
	var err error
	if key, err = base64.StdEncoding.DecodeString(strings.TrimPrefix(os.Getenv("SECRET"), "whsec_")); err != nil {
		log.Fatal("SECRET: ", err)
	}
	// A transaction that writes waits for others from its start, so it never fails in the middle.
	db, err = sql.Open("sqlite3", "file:"+setting("DATABASE", "inbox.db")+"?_busy_timeout=10000&_txlock=immediate")
	if err != nil {
		log.Fatal(err)
	}
	if _, err := db.Exec(schema); err != nil {
		log.Fatal(err)
	}
	go work()
	if os.Getenv("SENDOFF_URL") != "" {
		go nightly()
	}
	http.HandleFunc("/hooks", receive)
	server := http.Server{Addr: "127.0.0.1:" + setting("PORT", "9000"), ReadTimeout: 15 * time.Second}
	log.Fatal(server.ListenAndServe())
}

func setting(name, otherwise string) string {
	if value := os.Getenv(name); value != "" {
		return value
	}
	return otherwise
}

func receive(response http.ResponseWriter, request *http.Request) {
	// The raw bytes: parsed and written again, they would not match the signature.
	body, err := io.ReadAll(http.MaxBytesReader(response, request.Body, maxBody))
	if err != nil {
		http.Error(response, err.Error(), http.StatusBadRequest)
		return
	}
	if err := verify(request.Header, body, time.Now()); err != nil {
		http.Error(response, err.Error(), http.StatusUnauthorized)
		return
	}
	if err := store(request.Header.Get("webhook-id"), string(body)); err != nil {
		log.Print(err)
		http.Error(response, "not stored", http.StatusInternalServerError) // Sendoff sends it again
		return
	}
	response.WriteHeader(http.StatusNoContent)
}

// verify fails unless body was signed with the key, by Standard Webhooks, within the tolerance.
func verify(header http.Header, body []byte, now time.Time) error {
	id, timestamp := header.Get("webhook-id"), header.Get("webhook-timestamp")
	seconds, err := strconv.ParseInt(timestamp, 10, 64)
	if err != nil {
		return errors.New("invalid timestamp")
	}
	if age := now.Sub(time.Unix(seconds, 0)); age > tolerance || age < -tolerance {
		return errors.New("timestamp outside the tolerance")
	}
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(id + "." + timestamp + "."))
	mac.Write(body)
	// There are several signatures during a rotation of the secret. hmac.Equal takes constant time.
	for _, signature := range strings.Fields(header.Get("webhook-signature")) {
		version, value, _ := strings.Cut(signature, ",")
		given, err := base64.StdEncoding.DecodeString(value)
		if version == "v1" && err == nil && hmac.Equal(given, mac.Sum(nil)) {
			return nil
		}
	}
	return errors.New("no matching signature")
}

// store commits a message before Sendoff hears that it has arrived. One that is known already changes nothing.
func store(id, payload string) error {
	_, err := db.Exec("INSERT INTO inbox (id, payload) VALUES (?, ?) ON CONFLICT (id) DO NOTHING", id, payload)
	select {
	case arrived <- struct{}{}:
	default:
	}
	return err
}

func work() {
	for {
		more, err := handleNext()
		if err != nil {
			log.Print(err) // the database is locked: the next round tries again
		}
		if !more {
			select {
			case <-arrived:
			case <-time.After(time.Second):
			}
		}
	}
}

// handleNext makes the effect and the mark in one transaction: after a crash there are both or neither.
func handleNext() (more bool, err error) {
	tx, err := db.Begin()
	if err != nil {
		return false, err
	}
	defer tx.Rollback() // does nothing after the commit

	var position int64
	var payload string
	err = tx.QueryRow(`UPDATE inbox SET status = 'done' WHERE position = (
		SELECT MIN(position) FROM inbox WHERE status = 'waiting') RETURNING position, payload`).Scan(&position, &payload)
	if errors.Is(err, sql.ErrNoRows) {
		return false, nil
	} else if err != nil {
		return false, err
	}
	if _, err := tx.Exec("SAVEPOINT effect"); err != nil {
		return false, err
	}
	if failure := handle(tx, payload); failure != nil {
		// It would fail again. Set status to 'waiting' once the cause is gone.
		if _, err := tx.Exec("ROLLBACK TO effect"); err != nil {
			return false, err
		}
		_, err := tx.Exec("UPDATE inbox SET status = 'failed', error = ? WHERE position = ?", failure.Error(), position)
		if err != nil {
			return false, err
		}
	}
	return true, tx.Commit()
}

// handle takes messages in any order: an older version does not replace a newer one.
func handle(tx *sql.Tx, payload string) error {
	var event struct {
		Invoice, State *string
		Version        int64
	}
	if err := json.Unmarshal([]byte(payload), &event); err != nil {
		return err
	}
	_, err := tx.Exec(`INSERT INTO invoice (id, version, state, changes) VALUES (?, ?, ?, 1)
		ON CONFLICT (id) DO UPDATE SET changes = changes + 1, version = MAX(version, excluded.version),
		state = CASE WHEN excluded.version > version THEN excluded.state ELSE state END`,
		event.Invoice, event.Version, event.State)
	return err
}

func nightly() {
	seconds, err := strconv.ParseFloat(setting("RECONCILE_SECONDS", "86400"), 64)
	if err != nil {
		log.Fatal("RECONCILE_SECONDS: ", err)
	}
	for {
		if err := reconcile(); err != nil {
			log.Print(err) // Sendoff is away: the next night compares the same days again
		}
		time.Sleep(time.Duration(seconds * float64(time.Second)))
	}
}

// reconcile asks Sendoff for the messages of the last two days that are not in the inbox.
func reconcile() error {
	since := time.Now().UTC().AddDate(0, 0, -2).Format(time.RFC3339)
	after := ""
	for {
		has, err := known(since, after)
		if err != nil {
			return err
		}
		full := len(has) == maxIDs
		asked := map[string]any{"since": since, "has": has, "hasMore": full, "limit": 250}
		if after != "" {
			asked["iterator"] = after
		}
		var page struct {
			Data []struct {
				ID      string
				Payload json.RawMessage
			}
			Iterator string
			Done     bool
		}
		if err := post(asked, &page); err != nil {
			return err
		}
		for _, message := range page.Data {
			if err := store(message.ID, string(message.Payload)); err != nil {
				return err
			}
		}
		switch {
		case page.Done && !full:
			return nil
		case page.Done:
			after = has[maxIDs-1]
		default:
			after = page.Iterator
		}
	}
}

// known returns the next ids of the inbox.
func known(since, after string) ([]string, error) {
	const next = "SELECT id FROM inbox WHERE received_at >= ? AND id > ? ORDER BY id LIMIT ?"
	rows, err := db.Query(next, since, after, maxIDs)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	ids := []string{}
	for rows.Next() {
		var id string
		if err := rows.Scan(&id); err != nil {
			return nil, err
		}
		ids = append(ids, id)
	}
	return ids, rows.Err()
}

func post(asked, page any) error {
	body, err := json.Marshal(asked)
	if err != nil {
		return err
	}
	url := fmt.Sprintf("%s/api/v1/app/%s/endpoint/%s/reconcile",
		os.Getenv("SENDOFF_URL"), os.Getenv("APPLICATION"), os.Getenv("ENDPOINT"))
	request, err := http.NewRequest("POST", url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	request.Header.Set("authorization", "Bearer "+os.Getenv("SENDOFF_TOKEN"))
	request.Header.Set("content-type", "application/json")
	client := http.Client{Timeout: 30 * time.Second}
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(response.Body, 1000))
		return fmt.Errorf("%s: %s", response.Status, text)
	}
	return json.NewDecoder(response.Body).Decode(page)
}
