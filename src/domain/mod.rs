//! The ground floor: what things are and what follows from what, without I/O or a clock; randomness only where a key or an id is made.
//!
//! Everything about time is an argument. Nothing here imports another floor of the house.

pub mod address;
pub mod application;
pub mod attempt;
pub mod audit;
pub mod autoconfig;
pub mod background;
pub mod backoff;
pub mod colour;
pub mod delivery;
pub mod endpoint;
pub mod event_type;
pub mod example;
pub mod failing;
pub mod feed;
pub mod ids;
pub mod invalid;
pub mod key;
pub mod lease;
pub mod limits;
pub mod mail;
pub mod message;
pub mod operational;
pub mod operator;
pub mod password;
pub mod polling;
pub mod portal;
pub mod secret;
pub mod signature;
pub mod span;
pub mod theme;
pub mod time;
pub mod token_key;

pub use ids::{
    AppId, AttemptId, AuditId, AutoConfigId, BackgroundId, EndpointId, KeyId, MailId, MessageId, OperatorId, OrgId,
    PollingEndpointId, PollingTokenId, Uid,
};
pub use invalid::Invalid;
pub use time::Time;
