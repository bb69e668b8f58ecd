//! The grammar of label selectors, with Kubernetes' error messages:
//! `key`, `!key`, `key=value`, `key!=value`, `key in (a,b)`, `key notin (a)`, `key>1`, joined by commas.

use std::collections::BTreeSet;

use super::label::{Operator, Requirement};

const MAX_REQUIREMENTS: usize = 1000;

pub(super) fn parse(text: &str) -> Result<Vec<Requirement>, String> {
    let mut parser = Parser { tokens: lex(text)?, at: 0 };
    let mut out = Vec::new();
    loop {
        let first = parser.peek();
        if first == Token::End {
            return Ok(out);
        }
        if !first.starts_requirement() {
            let found = first.text();
            return Err(format!("found '{found}', expected: !, identifier, or 'end of string'"));
        }
        let requirement =
            parser.requirement().map_err(|it| format!("unable to parse requirement: {it}"))?;
        out.push(requirement);
        if out.len() > MAX_REQUIREMENTS {
            return Err("too many requirements in the label selector".to_owned());
        }
        let after = parser.next();
        if after == Token::End {
            return Ok(out);
        }
        if after != Token::Comma {
            return Err(format!("found '{}', expected: ',' or 'end of string'", after.text()));
        }
        let next = parser.peek();
        if !next.starts_requirement() {
            return Err(format!("found '{}', expected: identifier after ','", next.text()));
        }
    }
}

#[derive(Clone, Debug, Eq, PartialEq)]
enum Token {
    Word(String),
    Open,
    Close,
    Comma,
    Not,
    Equals,
    DoubleEquals,
    NotEquals,
    Greater,
    Less,
    End,
}

impl Token {
    fn starts_requirement(&self) -> bool {
        matches!(self, Self::Word(_) | Self::Not)
    }

    fn text(&self) -> &str {
        match self {
            Self::Word(text) => text,
            Self::Open => "(",
            Self::Close => ")",
            Self::Comma => ",",
            Self::Not => "!",
            Self::Equals => "=",
            Self::DoubleEquals => "==",
            Self::NotEquals => "!=",
            Self::Greater => ">",
            Self::Less => "<",
            Self::End => "",
        }
    }
}

fn lex(text: &str) -> Result<Vec<Token>, String> {
    let mut out = Vec::new();
    let mut rest = text;
    loop {
        rest = rest.trim_start_matches([' ', '\t', '\r', '\n']);
        let Some(first) = rest.chars().next() else {
            out.push(Token::End);
            return Ok(out);
        };
        let (token, length) = match first {
            '(' => (Token::Open, 1),
            ')' => (Token::Close, 1),
            ',' => (Token::Comma, 1),
            '>' => (Token::Greater, 1),
            '<' => (Token::Less, 1),
            '!' if rest.starts_with("!=") => (Token::NotEquals, 2),
            '!' => (Token::Not, 1),
            '=' if rest.starts_with("==") => (Token::DoubleEquals, 2),
            '=' => (Token::Equals, 1),
            _ => {
                let end = |c: char| "()!=,<> \t\r\n".contains(c);
                let length = rest.find(end).unwrap_or(rest.len());
                (Token::Word(rest[..length].to_owned()), length)
            }
        };
        out.push(token);
        rest = &rest[length..];
    }
}

struct Parser {
    tokens: Vec<Token>,
    at: usize,
}

impl Parser {
    fn peek(&self) -> Token {
        self.tokens.get(self.at).cloned().unwrap_or(Token::End)
    }

    fn next(&mut self) -> Token {
        let token = self.peek();
        self.at += 1;
        token
    }

    fn requirement(&mut self) -> Result<Requirement, String> {
        let mut token = self.next();
        let negated = token == Token::Not;
        if negated {
            token = self.next();
        }
        let Token::Word(key) = token else {
            return Err(format!("found '{}', expected: identifier", token.text()));
        };
        if matches!(self.peek(), Token::End | Token::Comma) || negated {
            let operator = if negated { Operator::DoesNotExist } else { Operator::Exists };
            return Requirement { key, operator, values: BTreeSet::new() }.check();
        }
        let operator = self.operator()?;
        let values = match operator {
            Operator::In | Operator::NotIn => self.values()?,
            Operator::DoesNotExist
            | Operator::Equals
            | Operator::Exists
            | Operator::GreaterThan
            | Operator::LessThan
            | Operator::NotEquals => self.exact_value()?,
        };
        Requirement { key, operator, values }.check()
    }

    fn operator(&mut self) -> Result<Operator, String> {
        let token = self.next();
        Ok(match &token {
            Token::Word(word) if word == "in" => Operator::In,
            Token::Word(word) if word == "notin" => Operator::NotIn,
            Token::Equals | Token::DoubleEquals => Operator::Equals,
            Token::NotEquals => Operator::NotEquals,
            Token::Greater => Operator::GreaterThan,
            Token::Less => Operator::LessThan,
            Token::Word(_)
            | Token::Open
            | Token::Close
            | Token::Comma
            | Token::Not
            | Token::End => {
                return Err(format!(
                    "found '{}', expected: in, notin, =, ==, !=, gt, lt",
                    token.text()
                ));
            }
        })
    }

    fn exact_value(&mut self) -> Result<BTreeSet<String>, String> {
        if matches!(self.peek(), Token::End | Token::Comma) {
            return Ok(BTreeSet::from([String::new()]));
        }
        let token = self.next();
        let Token::Word(word) = token else {
            return Err(format!("found '{}', expected: identifier", token.text()));
        };
        Ok(BTreeSet::from([word]))
    }

    /// `(a,b)`; empty places between commas are empty values.
    fn values(&mut self) -> Result<BTreeSet<String>, String> {
        let open = self.next();
        if open != Token::Open {
            return Err(format!("found '{}' expected: '('", open.text()));
        }
        let mut out = BTreeSet::new();
        if self.peek() == Token::Close {
            self.next();
            return Ok(out);
        }
        loop {
            let token = self.peek();
            if let Token::Word(word) = token {
                out.insert(word);
                self.next();
            } else if matches!(token, Token::Comma | Token::Close) {
                out.insert(String::new());
            } else {
                return Err(format!("found '{}', expected: ',', or identifier", token.text()));
            }
            let after = self.next();
            if after == Token::Close {
                return Ok(out);
            }
            if after != Token::Comma {
                return Err(format!("found '{}', expected: ',' or ')'", after.text()));
            }
        }
    }
}
