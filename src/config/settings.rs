//! The table of settings. Come here to add a setting, or to change its default, its format or its help text.
//!
//! A setting has one name with three spellings: `max_payload` in the TOML file, `SENDOFF_MAX_PAYLOAD` in the
//! environment and `--max-payload` on the command line. docs/configuration.md and examples/sendoff.toml list every
//! setting too, and tests/process/settings.rs compares all three.

use std::fmt;

/// A setting, as text.
#[derive(Debug)]
pub struct Setting {
    /// In snake_case, as in the TOML file.
    pub name: &'static str,
    pub default: Option<&'static str>,
    /// The valid format, which completes the sentence "expected …".
    pub form: &'static str,
    /// The help text: sentence case, verb first.
    pub help: &'static str,
    /// Errors never quote the value.
    pub secret: bool,
}

const fn setting(name: &'static str, default: Option<&'static str>, form: &'static str, help: &'static str) -> Setting {
    Setting { name, default, form, help, secret: false }
}

const fn secret(name: &'static str, default: Option<&'static str>, form: &'static str, help: &'static str) -> Setting {
    Setting { secret: true, ..setting(name, default, form, help) }
}

/// All settings, in the order of docs/configuration.md.
pub const SETTINGS: [Setting; 56] = [
    setting("config", None, "the path of a TOML file", "Read settings from this TOML file, in snake_case"),
    // Database.
    secret(
        "database_url",
        Some("sqlite:sendoff.db"),
        "sqlite:PATH (a file) or postgres://user:password@host/database",
        "Use this database",
    ),
    setting(
        "database_connections",
        Some("17"),
        "a number from 8 to 1000, such as 17",
        "Limit this process's PostgreSQL connections",
    ),
    setting(
        "sqlite_busy_timeout",
        Some("5s"),
        "100ms to 30s, such as 5s",
        "Wait this long while another program holds the SQLite lock",
    ),
    // Process.
    setting(
        "role",
        Some("all"),
        "all, api or worker",
        "Run all parts, or with PostgreSQL only the API and dashboard (api) or only the engine (worker)",
    ),
    setting("drain", Some("30s"), "1s to 1h, such as 30s", "Wait at most this long for attempts in flight at shutdown"),
    setting(
        "log",
        Some("info"),
        "off, error, warn, info, debug or trace, or a list such as info,sendoff=debug",
        "Log to standard error at this level",
    ),
    setting("log_format", Some("text"), "text or json", "Format log lines as text or JSON"),
    // Addresses.
    setting(
        "listen",
        Some("127.0.0.1:8071"),
        "an IP address and a port, such as 127.0.0.1:8071",
        "Serve the REST API and the dashboard at this address",
    ),
    setting(
        "admin_listen",
        None,
        "an IP address and a port, such as 127.0.0.1:8072",
        "Serve /healthz, /readyz and /metrics at this address instead of --listen",
    ),
    setting(
        "dashboard_listen",
        None,
        "an IP address and a port, such as 127.0.0.1:8074",
        "Serve the dashboard at this address instead of --listen",
    ),
    setting(
        "portal_listen",
        None,
        "an IP address and a port, such as 127.0.0.1:8073",
        "Serve the customer portal at this address instead of --listen",
    ),
    setting(
        "public_url",
        None,
        "a scheme, a host and an optional port, such as https://hooks.example.com",
        "Set the URL at which clients reach the REST API, and browsers the dashboard [from --listen]",
    ),
    setting(
        "dashboard_url",
        None,
        "a scheme, a host and an optional port, such as https://dashboard.example.com",
        "Set the URL at which browsers reach the dashboard [from --dashboard-listen]",
    ),
    setting(
        "portal_url",
        None,
        "a scheme, a host and an optional port, such as https://portal.example.com",
        "Set the URL at which browsers reach the customer portal [from --portal-listen]",
    ),
    setting(
        "trusted_proxies",
        Some(""),
        "networks separated by commas, such as 10.0.0.5/32,10.1.0.0/16",
        "Trust X-Forwarded-For from proxies in these networks",
    ),
    setting(
        "cors_origins",
        Some("*"),
        "* (any), none, or origins separated by commas, such as https://app.example.com",
        "Allow browser scripts from these origins to call the REST API",
    ),
    setting(
        "frame_origins",
        Some(""),
        "https origins separated by commas, such as https://app.example.com (http for loopback hosts only)",
        "Allow these origins to embed the customer portal in an iframe",
    ),
    // Keys and tokens.
    secret(
        "jwt_secret",
        None,
        "at least 16 bytes, such as the output of `openssl rand -hex 32`",
        "Sign tokens with this secret [created on the first start with SQLite]",
    ),
    secret(
        "jwt_secret_other",
        None,
        "at least 16 bytes, like the secret",
        "Accept tokens signed with this secret too, while the secret changes",
    ),
    setting(
        "jwt_algorithm",
        Some("HS256"),
        "HS256, HS384, HS512, RS256, RS384, RS512 or EdDSA",
        "Accept only tokens signed with this algorithm",
    ),
    // Secret, because the private key may be set by mistake.
    secret(
        "jwt_public_key",
        None,
        "a PEM (-----BEGIN PUBLIC KEY-----), such as the output of `openssl pkey -pubout`",
        "Verify RS256, RS384, RS512 or EdDSA tokens with this key",
    ),
    secret(
        "master_key",
        None,
        "base64 of 32 random bytes, such as the output of `openssl rand -base64 32`",
        "Encrypt endpoint secrets with this key [created on the first start with SQLite]",
    ),
    secret(
        "master_key_other",
        None,
        "base64 of 32 random bytes, like the master key",
        "Decrypt with this second key too, while the master key changes",
    ),
    // Single sign-on.
    setting(
        "oidc_issuer",
        None,
        "an https URL, such as https://login.example.com (http for loopback hosts only)",
        "Let operators sign in at this OpenID Connect provider",
    ),
    setting("oidc_client_id", None, "the client's id, without spaces", "Identify as this client at the provider"),
    secret("oidc_client_secret", None, "the client's secret", "Authenticate at the provider with this secret"),
    setting(
        "oidc_scopes",
        Some("openid profile email"),
        "scopes separated by spaces, such as openid profile email groups",
        "Ask the provider for these scopes",
    ),
    setting("oidc_groups_claim", Some("groups"), "the name of a claim, such as groups", "Read groups from this claim"),
    setting(
        "oidc_roles",
        None,
        "groups with viewer, operator or admin, separated by commas, such as ops=operator,*=viewer",
        "Map groups to roles; * matches everyone",
    ),
    setting(
        "oidc_domains",
        Some(""),
        "domains separated by commas, such as example.com",
        "Accept only verified email addresses in these domains",
    ),
    setting("oidc_label", Some("Single sign-on"), "one line of up to 40 characters", "Label the sign-in button"),
    setting(
        "oidc_session",
        Some("12h"),
        "5m to 7d, such as 12h",
        "End sessions of the provider's users after this time",
    ),
    setting("require_totp", Some("false"), "true or false", "Require two-factor sign-in of operators with a password"),
    // Delivery.
    setting(
        "retry_schedule",
        Some("5s,5m,30m,2h,5h,10h,14h,20h,24h"),
        "up to 20 waits of at most 7d, separated by commas, such as 5s,5m,2h",
        "Wait this long between attempts",
    ),
    setting("request_timeout", Some("15s"), "1s to 30s, such as 15s", "Limit the duration of one attempt"),
    setting(
        "max_in_flight",
        Some("1024"),
        "a number from 1 to 65536, such as 1024",
        "Limit concurrent requests to receivers",
    ),
    setting(
        "endpoint_max_in_flight",
        Some("64"),
        "a number from 1 to SENDOFF_MAX_IN_FLIGHT, such as 64",
        "Limit concurrent requests to one endpoint",
    ),
    setting(
        "endpoint_disable_after",
        Some("5d"),
        "1s to 365d, such as 5d",
        "Disable endpoints that only fail for this long",
    ),
    setting(
        "consumer_silent_after",
        Some("2d"),
        "5m to 365d, such as 2d",
        "Report consumers of polling endpoints that have not polled for this long",
    ),
    setting(
        "signature_type",
        Some("hmac256"),
        "hmac256 or ed25519",
        "Sign this way for new endpoints that name neither a type nor a secret",
    ),
    setting(
        "egress_allow",
        Some(""),
        "networks separated by commas, such as 127.0.0.1/32,10.1.0.0/16",
        "Allow endpoints in these private or local networks",
    ),
    secret(
        "egress_proxy",
        None,
        "http://user:password@host:3128, https://… or socks5://…",
        "Reach receivers through this proxy",
    ),
    setting(
        "egress_no_proxy",
        Some(""),
        "host names and networks separated by commas, such as .internal.example,10.1.0.0/16",
        "Reach these receivers without the proxy",
    ),
    setting(
        "egress_dns",
        Some(""),
        "addresses of name servers separated by commas, such as 192.0.2.53,[2001:db8::53]:5353",
        "Look up receivers at these name servers instead of the system's",
    ),
    setting("https_only", Some("false"), "true or false", "Reject endpoints with an http:// URL"),
    // Limits and retention.
    setting("max_payload", Some("256KiB"), "1KiB to 16MiB, such as 256KiB", "Limit the size of a payload"),
    setting(
        "max_endpoints",
        Some("10000"),
        "a number from 1 to 1000000, such as 10000",
        "Limit the endpoints of one application",
    ),
    setting(
        "retention",
        Some("90d"),
        "1m to 3650d, such as 90d",
        "Keep messages, deliveries and attempts for this long",
    ),
    setting(
        "deleted_retention",
        Some("7d"),
        "1m to 3650d, such as 7d",
        "Keep secrets, headers and metadata of deleted endpoints and applications for this long",
    ),
    // Rate limits.
    setting(
        "rate_limit_key",
        Some("50000"),
        "a number from 0 (no limit) to 1000000, such as 50000",
        "Limit requests per second of one API key, and of one organization's tokens",
    ),
    setting(
        "rate_limit_application",
        Some("1000"),
        "a number from 0 (no limit) to 1000000, such as 1000",
        "Limit requests per second of one application's tokens",
    ),
    setting(
        "rate_limit_session",
        Some("200"),
        "a number from 0 (no limit) to 1000000, such as 200",
        "Limit requests per second of one dashboard or portal session",
    ),
    setting(
        "rate_limit_address",
        Some("1000"),
        "a number from 0 (no limit) to 1000000, such as 1000",
        "Limit requests per second of one IP address without a valid token or session",
    ),
    // Email.
    secret(
        "smtp_url",
        None,
        "smtp://user:password@host:587?tls=required or smtps://user:password@host",
        "Send alerts about failing endpoints through this mail server",
    ),
    setting(
        "mail_from",
        None,
        "an address such as hooks@example.com, or Name <address>",
        "Send alerts from this address",
    ),
];

impl Setting {
    /// The environment variable.
    pub fn variable(&self) -> String {
        format!("SENDOFF_{}", self.name.to_ascii_uppercase())
    }

    /// The flag, without leading dashes.
    pub fn flag(&self) -> String {
        self.name.replace('_', "-")
    }
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.variable())
    }
}

/// Environment variables with Sendoff's prefix that are not settings, most likely misspelled. Skips variables that
/// Kubernetes sets for a service named `sendoff` and those of the test suite.
pub fn unknown_variables<'v>(names: impl Iterator<Item = &'v str>) -> Vec<&'v str> {
    const IGNORED_PREFIXES: [&str; 3] = ["SENDOFF_TEST_", "SENDOFF_SERVICE_", "SENDOFF_PORT"];
    let variables: Vec<String> = SETTINGS.iter().map(Setting::variable).collect();
    names
        .filter(|name| name.starts_with("SENDOFF_") && !variables.iter().any(|variable| variable == name))
        .filter(|name| !IGNORED_PREFIXES.iter().any(|prefix| name.starts_with(prefix)))
        .collect()
}
