//! TODO

pub mod api_key;
pub mod audit;
pub mod colour;
pub mod operator;
pub mod password;
pub mod portal;
pub mod theme;
pub mod token_key;
