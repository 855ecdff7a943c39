// Writes an order and its event to the outbox in one transaction, with Go's database/sql and lib/pq.
//
//	PGHOST=localhost PGUSER=shop PGDATABASE=shop go run database_sql_shop.go acme
//
// Another driver of PostgreSQL works alike. For the table of `sendoff relay`, set OUTBOX=sendoff_outbox.
package main

import (
	"database/sql"
	"fmt"
	"log"
	"os"

	_ "github.com/lib/pq"
)

func main() {
	db, err := sql.Open("postgres", "") // reads PGHOST and the others
	if err != nil {
		log.Fatal(err)
	}
	if err := placeOrder(db, os.Args[1]); err != nil {
		log.Fatal(err)
	}
	fmt.Println("the order and its event are committed")
}

func placeOrder(db *sql.DB, application string) error {
	if _, err := db.Exec("CREATE TABLE IF NOT EXISTS shop_go_order (id BIGSERIAL PRIMARY KEY, total NUMERIC NOT NULL)"); err != nil {
		return err
	}
	tx, err := db.Begin()
	if err != nil {
		return err
	}
	defer tx.Rollback() // does nothing after the commit

	var order int64
	if err := tx.QueryRow("INSERT INTO shop_go_order (total) VALUES ($1) RETURNING id", 48.5).Scan(&order); err != nil {
		return err
	}
	outbox := os.Getenv("OUTBOX")
	if outbox == "" {
		outbox = "sendoff.outbox"
	}
	_, err = tx.Exec("INSERT INTO "+outbox+" (application, event_type, payload, event_id) VALUES ($1, $2, $3, $4)",
		application, "order.created",
		fmt.Sprintf(`{"orderId": %d, "total": 48.5}`, order), fmt.Sprintf("go-order-%d-created", order))
	if err != nil {
		return err
	}
	return tx.Commit()
}
