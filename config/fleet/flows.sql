-- The table of nfacctd-sql.conf, for SQLite: sqlite3 /var/lib/fleet/flows.db < flows.sql
-- A replayed record is a second row with the same flow_key: count distinct keys, not rows.
-- nfacctd's writer waits for no lock, so a reader would cost rows without a write-ahead log.
PRAGMA journal_mode = WAL;
CREATE TABLE flows (
    flow_key TEXT NOT NULL,
    export_proto_sysid INTEGER NOT NULL,
    timestamp_start INTEGER NOT NULL,
    timestamp_start_residual INTEGER NOT NULL,
    timestamp_end INTEGER NOT NULL,
    timestamp_end_residual INTEGER NOT NULL,
    ip_src TEXT NOT NULL,
    ip_dst TEXT NOT NULL,
    port_src INTEGER NOT NULL,
    port_dst INTEGER NOT NULL,
    ip_proto INTEGER NOT NULL,
    icmp_type_code4 INTEGER NOT NULL,
    icmp_type_code6 INTEGER NOT NULL,
    end_reason INTEGER NOT NULL,
    octets INTEGER NOT NULL,
    pkts INTEGER NOT NULL,
    reverse_octets INTEGER NOT NULL,
    reverse_pkts INTEGER NOT NULL,
    nat_event INTEGER NOT NULL,
    post_nat_ip_src TEXT NOT NULL,
    post_nat_ip_dst TEXT NOT NULL,
    post_nat_port_src INTEGER NOT NULL,
    post_nat_port_dst INTEGER NOT NULL,
    nat6_src TEXT NOT NULL,
    nat6_dst TEXT NOT NULL,
    -- Columns that nfacctd may name whether they are filled or not.
    packets INTEGER,
    bytes INTEGER,
    flows INTEGER,
    stamp_inserted TEXT,
    stamp_updated TEXT
);
CREATE INDEX flows_by_key ON flows (flow_key);
CREATE INDEX flows_by_translation ON flows (post_nat_ip_src, post_nat_port_src, timestamp_start);
