//! Tokens to a syntax tree, by recursive descent with a bound on nesting.

use super::ast::Expression;
use super::token::{Token, tokens};

/// How deep parentheses, and the levels of the syntax tree, may nest.
pub const NESTING_MAX: usize = 128;

/// Why a text is no selector.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SelectorError {
    /// A string literal without its end.
    #[error("unterminated string")]
    UnterminatedString,
    /// Something is missing.
    #[error("expected {0}")]
    Expected(&'static str),
    /// A label that nothing usable follows.
    #[error("expected operator after label \"{0}\"")]
    ExpectedOperator(String),
    /// `has(` without its end.
    #[error("no closing ')' after {0}(")]
    NotClosed(&'static str),
    /// `has()` without a label.
    #[error("expected identifier")]
    ExpectedIdentifier,
    /// A label above 512 bytes.
    #[error("label too long: {0}")]
    LabelTooLong(String),
    /// A character that starts no token.
    #[error("unexpected character {0:?}")]
    UnexpectedCharacter(char),
    /// The text stops where an operand should be.
    #[error("unexpected end of string looking for op")]
    UnexpectedEnd,
    /// A label without a comparison.
    #[error("expected == or != not: {0}")]
    ExpectedComparison(String),
    /// A token where an operand should be.
    #[error("unexpected token: {0}")]
    UnexpectedToken(String),
    /// More after a whole selector.
    #[error("unexpected content at end of selector [{0}]")]
    TrailingContent(String),
    /// Nested deeper than [`NESTING_MAX`].
    #[error("nested deeper than {NESTING_MAX} levels")]
    TooDeep,
}

pub(super) fn parse(text: &str) -> Result<Expression, SelectorError> {
    let tokens = tokens(text)?;
    let mut parser = Parser {
        tokens: &tokens,
        nesting: 0,
    };
    if parser.peek() == &Token::End {
        return Ok(Expression::All);
    }
    let root = parser.or()?;
    if parser.peek() != &Token::End {
        return Err(SelectorError::TrailingContent(parser.peek().to_string()));
    }
    // The canonical form has parentheses for each level of the tree, so the tree has the same bound.
    if root.depth() > NESTING_MAX {
        return Err(SelectorError::TooDeep);
    }
    Ok(root)
}

struct Parser<'t, 'a> {
    tokens: &'t [Token<'a>],
    nesting: usize,
}

impl<'t, 'a> Parser<'t, 'a> {
    fn peek(&self) -> &'t Token<'a> {
        self.tokens.first().unwrap_or(&Token::End)
    }

    fn take(&mut self) -> &'t Token<'a> {
        let token = self.peek();
        self.tokens = self.tokens.get(1..).unwrap_or_default();
        token
    }

    fn accept(&mut self, token: &Token<'_>) -> bool {
        let found = self.peek() == token;
        if found {
            self.take();
        }
        found
    }

    fn or(&mut self) -> Result<Expression, SelectorError> {
        let mut operands = vec![self.and()?];
        while self.accept(&Token::Or) {
            operands.push(self.and()?);
        }
        Ok(one_or(operands, Expression::Or))
    }

    fn and(&mut self) -> Result<Expression, SelectorError> {
        let mut operands = vec![self.operand()?];
        while self.accept(&Token::And) {
            operands.push(self.operand()?);
        }
        Ok(one_or(operands, Expression::And))
    }

    fn operand(&mut self) -> Result<Expression, SelectorError> {
        let mut negated = false;
        while self.accept(&Token::Not) {
            negated = !negated;
        }
        let primary = self.primary()?;
        Ok(match primary {
            primary if !negated => primary,
            Expression::Not(operand) => *operand,
            primary => Expression::Not(Box::new(primary)),
        })
    }

    fn primary(&mut self) -> Result<Expression, SelectorError> {
        match self.take() {
            Token::All => Ok(Expression::All),
            Token::Global => Ok(Expression::Global),
            Token::Has(label) => Ok(Expression::Has((*label).to_owned())),
            Token::Label(label) => self.comparison((*label).to_owned()),
            Token::OpenParen => {
                self.nesting += 1;
                if self.nesting > NESTING_MAX {
                    return Err(SelectorError::TooDeep);
                }
                let inner = self.or()?;
                self.nesting -= 1;
                if self.accept(&Token::CloseParen) {
                    Ok(inner)
                } else {
                    Err(SelectorError::Expected(")"))
                }
            }
            Token::End => Err(SelectorError::UnexpectedEnd),
            other => Err(SelectorError::UnexpectedToken(other.to_string())),
        }
    }

    fn comparison(&mut self, label: String) -> Result<Expression, SelectorError> {
        let with_text: fn(String, String) -> Expression = match self.take() {
            Token::Equal => Expression::Equal,
            Token::NotEqual => Expression::NotEqual,
            Token::Contains => Expression::Contains,
            Token::StartsWith => Expression::StartsWith,
            Token::EndsWith => Expression::EndsWith,
            Token::In => return Ok(Expression::In(label, self.set()?)),
            Token::NotIn => return Ok(Expression::NotIn(label, self.set()?)),
            other => return Err(SelectorError::ExpectedComparison(other.to_string())),
        };
        match self.take() {
            Token::Text(text) => Ok(with_text(label, (*text).to_owned())),
            _ => Err(SelectorError::Expected("string")),
        }
    }

    fn set(&mut self) -> Result<Vec<String>, SelectorError> {
        if !self.accept(&Token::OpenBrace) {
            return Err(SelectorError::Expected("set literal"));
        }
        let mut values = Vec::new();
        while let Token::Text(text) = self.peek() {
            self.take();
            values.push((*text).to_owned());
            if !self.accept(&Token::Comma) {
                break;
            }
        }
        if !self.accept(&Token::CloseBrace) {
            return Err(SelectorError::Expected("}"));
        }
        values.sort_unstable();
        values.dedup();
        Ok(values)
    }
}

fn one_or(mut operands: Vec<Expression>, many: fn(Vec<Expression>) -> Expression) -> Expression {
    match operands.pop() {
        Some(only) if operands.is_empty() => only,
        Some(last) => {
            operands.push(last);
            many(operands)
        }
        None => Expression::All,
    }
}
